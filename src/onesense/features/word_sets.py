"""Sets of words that features are compared with: packaged ones, those of a rule, and the user's own files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import decoders

from onesense.errors import FormatError, NotFoundError, StorageError
from onesense.features.word_set_rules import RULES, Affix, Rule, TokenTable

_EXACT_CASE = "case matters"
_SURROGATES = re.compile("[\ud800-\udfff]")
_BYTE_LEVEL_MARK = "Ġ"


@dataclass(frozen=True, slots=True)
class WordSet:
    """Tokens that belong together.

    Attributes:
        name: Short name; that of its file.
        description: What the tokens are, in the plural, as it stands in a sentence: "women's pronouns".
        words: The words; casefolded unless ``exact_case``. Empty where there is a rule.
        exact_case: Whether "May" is in the set and "may" is not.
        rule: Decides on a token in place of a list; None where there is a list.
    """

    name: str
    description: str
    words: frozenset[str] = frozenset()
    exact_case: bool = False
    rule: Rule | Affix | None = None


def load_word_sets(paths: Iterable[Path | str] = ()) -> tuple[WordSet, ...]:
    """The packaged word sets and the user's own, in the order of their names.

    A file holds one word a line. Lines that start with ``#`` are comments: the first says what the words are,
    and ``# case matters`` asks for exact case. The name of the set is that of the file; a set of the user
    takes the place of the packaged one of that name.

    Args:
        paths: Files of the user.

    Raises:
        NotFoundError: A file does not exist.
        FormatError: A file is a folder, is not UTF-8, holds no word, or has several words in a line; or two
            files have one name.
        StorageError: A file cannot be read.
    """
    own: dict[str, WordSet] = {}
    for path in map(Path, paths):
        if path.stem in own:
            raise FormatError(
                f"Two files of words are named `{path.stem}`; {path} is the second.",
                hint="The name of a file is the name of its set: rename one of them.",
            )
        own[path.stem] = _parse(path.stem, _read(path), str(path))
    sets = {one.name: one for one in packaged_word_sets()} | own
    return tuple(sets[name] for name in sorted(sets))


@cache
def packaged_word_sets() -> tuple[WordSet, ...]:
    """Word sets that come with the package: files, then rules."""
    folder = resources.files("onesense.features") / "word_set_files"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name
    )
    listed = [
        _parse(file.name.removesuffix(".txt"), file.read_text(encoding="utf-8"), file.name) for file in files
    ]
    ruled = [WordSet(rule.name, rule.description, rule=rule) for rule in RULES]
    return (*listed, *ruled)


def membership(word_sets: Sequence[WordSet], tokens: Sequence[str]) -> NDArray[np.bool_]:
    """Which tokens are in which sets.

    A list of words holds a token that, without its leading space, is one of the words as a whole. The second
    half of the columns is about the same tokens where they go on a word that has begun: "her" in "other" is
    no pronoun.

    Args:
        word_sets: The sets.
        tokens: The text of each token of the vocabulary, leading space included.

    Returns:
        [n_sets, 2 * vocab]; column ``token`` is the token by itself, column ``vocab + token`` within a word.
    """
    n = len(tokens)
    members = np.zeros((len(word_sets), 2 * n), dtype=np.bool_)
    spelled = [token.removeprefix(" ") for token in tokens]
    starts = np.array([token[:1].isalpha() for token in tokens], dtype=np.bool_)
    listed, listed_exactly = _listed(word_sets, exact=False), _listed(word_sets, exact=True)
    for token, text in enumerate(spelled):
        for row in (*listed.get(text.casefold(), ()), *listed_exactly.get(text, ())):
            members[row, token] = True
    table = TokenTable(spelled)
    for row, rule in ((row, one.rule) for row, one in enumerate(word_sets) if one.rule is not None):
        holds = rule.members(table)
        members[row, :n] = holds & (rule.place != "within a word")
        members[row, n:] = holds & starts & (rule.place != "word")
    return members


def token_texts(vocabulary: Sequence[str]) -> list[str]:
    """The text of tokens that a tokenizer spells in its own way (``Ġthe``, ``▁the``), each by itself.

    Args:
        vocabulary: The tokenizer's own spelling of each token. That of byte-level tokenizers is recognised by
            a ``Ġ`` in any of them; a part of a character becomes the replacement character.
    """
    if any(_BYTE_LEVEL_MARK in token for token in vocabulary):
        byte_level = decoders.ByteLevel()
        # half of a surrogate pair, which a table of others may hold, is no text to the decoder
        return [byte_level.decode([_SURROGATES.sub("\ufffd", token)]) for token in vocabulary]
    return [token.replace("▁", " ") for token in vocabulary]


def _listed(word_sets: Sequence[WordSet], *, exact: bool) -> dict[str, list[int]]:
    """Rows of the sets that list each word."""
    rows: dict[str, list[int]] = {}
    for row, one in enumerate(word_sets):
        for word in one.words if one.exact_case is exact else ():
            rows.setdefault(word, []).append(row)
    return rows


def _read(path: Path) -> str:
    if path.is_dir():
        raise FormatError(
            f"{path} is a folder, not a file of words.", hint="Name the files in it one by one."
        )
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.", hint="Check the path of the word set.") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise FormatError(
            f"{path}, line {line}: not UTF-8 text.", hint="Save the words as plain text in UTF-8."
        ) from error
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}.", hint="Check the permissions of the file."
        ) from error


def _parse(name: str, text: str, where: str) -> WordSet:
    comments: list[str] = []
    words: list[str] = []
    for number, line in _lines(text):
        if line.startswith("#"):
            comments.append(line.lstrip("#").strip())
        elif len(line.split()) > 1:
            raise FormatError(
                f"{where}, line {number}: {line!r} is more than one word.",
                hint="Write one word a line; lines that start with # are comments.",
            )
        else:
            words.append(line)
    if not words:
        raise FormatError(f"{where} holds no word.", hint="Write one word a line.")
    exact = _EXACT_CASE in comments
    described = [comment for comment in comments if comment and comment != _EXACT_CASE]
    description = described[0] if described else f"words of the list “{name}”"
    kept = frozenset(words) if exact else frozenset(word.casefold() for word in words)
    return WordSet(name, description, kept, exact)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if stripped := line.strip():
            yield number, stripped
