"""Word-in-context pairs from a file: one word in two sentences, with the same sense or another one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onesense.errors import FormatError, NotFoundError
from onesense.store.disk_errors import storage_error

FIELDS = ("word", "sentence_1", "sentence_2", "label")
LABELS = {"same": True, "different": False}


@dataclass(frozen=True, slots=True)
class WordPair:
    """One word in two sentences.

    Attributes:
        word: The word.
        sentences: Both sentences.
        ends: Where the word ends in each, in characters; its first occurrence as a whole word counts, in
            capital or small letters.
        same: Whether it has the same sense in both.
    """

    word: str
    sentences: tuple[str, str]
    ends: tuple[int, int]
    same: bool

    @classmethod
    def of(cls, word: str, first: str, second: str, label: str, *, place: str = "This pair") -> WordPair:
        """A pair from its four fields.

        Args:
            word: The word.
            first: One sentence.
            second: The other.
            label: ``same`` or ``different``.
            place: Where the pair stands, for messages.

        Raises:
            FormatError: A field is empty, the word is not in a sentence, or the label is neither.
        """
        values = dict(zip(FIELDS, (word, first, second, label), strict=True))
        empty = [name for name, value in values.items() if not value.strip()]
        if empty:
            raise FormatError(
                f"{place}: the field `{empty[0]}` is empty.", hint="Fill it, or leave the pair out."
            )
        known = LABELS.get(label.strip().lower())
        if known is None:
            raise FormatError(f"{place}: the label `{label}` is unknown.", hint="Write same or different.")
        word = word.strip()
        whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
        ends = []
        for name, sentence in (("sentence_1", first), ("sentence_2", second)):
            found = whole.search(sentence)
            if found is None:
                raise FormatError(
                    f"{place}: the word `{word}` is not in `{name}`.",
                    hint="Write the word as it stands in both sentences.",
                )
            ends.append(found.end())
        return cls(word, (first, second), (ends[0], ends[1]), known)


def read_word_pairs(path: Path) -> list[WordPair]:
    """Pairs from a file.

    Args:
        path: A ``.jsonl`` file with one object a line, or a ``.tsv`` file with a header and no quoting. Both
            have the fields ``word``, ``sentence_1``, ``sentence_2`` and ``label`` (same or different).

    Raises:
        NotFoundError: There is no such file.
        StorageError: It cannot be read.
        FormatError: Another kind of file, not UTF-8, no pair, or a bad line; the message says which and why.
    """
    lines = _lines(path)
    if path.suffix == ".jsonl":
        rows = _json_rows(lines, path)
    elif path.suffix == ".tsv":
        rows = _table_rows(lines, path)
    else:
        raise FormatError(f"{path} is neither .jsonl nor .tsv.", hint="Save the pairs as one of them.")
    pairs = [WordPair.of(*values, place=place) for values, place in rows]
    if not pairs:
        raise FormatError(f"{path} holds no pair.", hint=f"Each line has {', '.join(FIELDS)}.")
    return pairs


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.", hint="Check the path.") from error
    except OSError as error:
        raise storage_error(error, path, action="read") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(f"{path}, line {line}: not UTF-8 text.", hint="Save it again as UTF-8.") from error
    # not splitlines(): that also cuts at Unicode's line separators, which sentences may hold
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    empty = next((number for number, line in enumerate(lines, start=1) if not line.strip()), None)
    if empty is not None:
        raise FormatError(f"{path}, line {empty}: an empty line.", hint="Delete it.")
    return lines


def _json_rows(lines: list[str], path: Path) -> Iterator[tuple[list[str], str]]:
    for number, line in enumerate(lines, start=1):
        place = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{place}: not JSON: {error}.", hint="Write one object a line.") from error
        if not isinstance(value, dict):
            raise FormatError(f"{place}: not an object in braces.", hint="Write one object a line.")
        for name in FIELDS:
            if not isinstance(value.get(name), str):
                raise FormatError(
                    f"{place}: the field `{name}` is missing or no text.",
                    hint=f"Each line has {', '.join(FIELDS)}.",
                )
        yield [value[name] for name in FIELDS], place


def _table_rows(lines: list[str], path: Path) -> Iterator[tuple[list[str], str]]:
    header = lines[0].split("\t") if lines else []
    missing = [name for name in FIELDS if header.count(name) != 1]
    if lines and missing:
        raise FormatError(
            f"{path}, line 1: the column `{missing[0]}` is missing, or there twice.",
            hint=f"The first line names the columns: {', '.join(FIELDS)}, separated by tabs.",
        )
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise FormatError(
                f"{path}, line {number}: {len(cells)} cells, but {len(header)} columns.",
                hint="Separate cells by tabs, and let no sentence hold one.",
            )
        yield [cells[header.index(name)] for name in FIELDS], f"{path}, line {number}"
