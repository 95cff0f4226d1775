"""Files of word-in-context pairs: both kinds, and each way in which a line can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onesense.errors import FormatError, NotFoundError, StorageError
from onesense.senses.field_metrics.word_pairs import FIELDS, read_word_pairs

GOOD = ("bank", "The bank lent money.", "They sat on the Bank.", "different")


def as_json(*rows: tuple[str, ...]) -> str:
    return "".join(json.dumps(dict(zip(FIELDS, row, strict=True))) + "\n" for row in rows)


def as_table(*rows: tuple[str, ...]) -> str:
    return "".join("\t".join(row) + "\n" for row in (FIELDS, *rows))


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_both_kinds_give_the_same_pairs(tmp_path: Path) -> None:
    rows = [GOOD, ("don't", "I don't know.", "Don't go, I said; don't!", "Same")]
    found = read_word_pairs(written(tmp_path, "a.jsonl", as_json(*rows)))
    windows = "﻿" + as_table(*rows).replace("\n", "\r\n") + "\r\n"
    assert read_word_pairs(written(tmp_path, "a.tsv", windows)) == found
    first, second = found
    assert (first.word, first.ends, first.same) == ("bank", (8, 20), False)
    assert (second.ends, second.same) == ((7, 5), True)


def test_columns_may_stand_in_another_order_beside_others(tmp_path: Path) -> None:
    text = "label\tsource\tsentence_2\tsentence_1\tword\ndifferent\tx\t" + f"{GOOD[2]}\t{GOOD[1]}\tbank\n"
    assert read_word_pairs(written(tmp_path, "a.tsv", text))[0].sentences == (GOOD[1], GOOD[2])


def test_a_word_within_a_word_does_not_count(tmp_path: Path) -> None:
    row = ("art", "The part of art.", "An artist.", "same")
    with pytest.raises(FormatError, match=r"line 2: the word `art` is not in `sentence_2`"):
        read_word_pairs(written(tmp_path, "a.tsv", as_table(row)))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("river", *GOOD[1:]), "the word `river` is not in `sentence_1`"),
        ((*GOOD[:3], "maybe"), "label `maybe` is unknown"),
        ((*GOOD[:3], " "), "field `label` is empty"),
        (("", *GOOD[1:]), "field `word` is empty"),
        ((GOOD[0], "", *GOOD[2:]), "field `sentence_1` is empty"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: tuple[str, ...], reason: str) -> None:
    with pytest.raises(FormatError, match=rf"a\.jsonl, line 2: .*{reason}"):
        read_word_pairs(written(tmp_path, "a.jsonl", as_json(GOOD, row)))
    with pytest.raises(FormatError, match=rf"a\.tsv, line 3: .*{reason}"):
        read_word_pairs(written(tmp_path, "a.tsv", as_table(GOOD, row)))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", "", "no pair"),
        ("a.tsv", as_table(), "no pair"),
        ("a.tsv", "", "no pair"),
        ("a.jsonl", as_json(GOOD) + "\n" + as_json(GOOD), "line 2: an empty line"),
        ("a.jsonl", "{oops\n", "line 1: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: not an object"),
        ("a.jsonl", '{"word": "bank", "sentence_1": 3}\n', "field `sentence_1` is missing or no text"),
        ("a.tsv", "word\tsentence_1\n", "column `sentence_2` is missing"),
        ("a.tsv", as_table((*GOOD, "more")), "line 2: 5 cells, but 4 columns"),
        ("a.csv", "word", "neither"),
        ("a.tsv", b"word\n\xff", "line 2: not UTF-8"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, name: str, content: str | bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        read_word_pairs(written(tmp_path, name, content))


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_word_pairs(tmp_path / "none.tsv")
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(StorageError):
        read_word_pairs(tmp_path / "folder.tsv")
