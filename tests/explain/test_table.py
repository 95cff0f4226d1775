"""The original project's JSON: read whole, refused with the place of the fault, and made a run of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onesense.errors import FormatError, IncompatibleError, NotFoundError
from onesense.explain.table import read_table, run_from_table
from onesense.store.catalog import Catalog

RECORD = {"feature": 0, "mean": 1e-9, "std": 0.2, "skewness": 0.7, "kurtosis": 9.0, "sparsity": -3.7}


def _written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "top.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def _record(feature: int, words: str, **changes: Any) -> dict[str, Any]:
    return {**RECORD, "feature": feature, "top_activated_words": words, **changes}


def test_words_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = _written(
        tmp_path,
        [_record(5, "ĠBrigade Ġbrig âĢĻ Ċ ðŁ", sparsity=None), _record(2, "Ġshe her"), _record(3, "")],
    )
    rows = read_table(path)
    assert [row.feature for row in rows] == [2, 3, 5]
    assert rows[0].top_tokens == (" she", "her")
    assert rows[1].top_tokens == ()
    assert rows[2].top_tokens[:4] == (" Brigade", " brig", "’", "\n")
    assert rows[2].top_tokens[4] == "\ufffd"
    assert (rows[2].sparsity, rows[2].kurtosis) == (None, 9.0)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "not valid JSON"),
        ({}, "list of records"),
        ([], "list of records"),
        ("[NaN]", "not valid JSON"),
        ([1], "record 0 is no record"),
        ([_record(0, "a"), {"feature": 1}], "record 1: `top_activated_words`"),
        ([_record(0, "a"), _record(0, "b")], "feature 0 twice"),
        ([_record(-1, "a")], "`feature`"),
        ([_record(True, "a")], "`feature`"),  # type: ignore[arg-type]
        ([{**_record(0, "a"), "feature": "0"}], "`feature`"),
        ([{**_record(0, "a"), "feature": 2**40}], "`feature`"),
        ([_record(0, "a", mean="x")], "`mean`"),
        ([_record(0, "a", std=True)], "`std`"),
        ([_record(0, "a", std=10**400)], "`std`"),
        ([_record(0, 7)], "`top_activated_words`"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: Any, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        read_table(_written(tmp_path, content))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        read_table(tmp_path / "absent.json")


def test_a_run_is_made_once_and_only_of_one_table(tmp_path: Path) -> None:
    rows = read_table(_written(tmp_path, [_record(5, "Ġnurse"), _record(2, "Ġshe")]))
    run = run_from_table(rows, tmp_path / "run")
    with Catalog(run.catalog_path, read_only=True) as catalog:
        assert [row.feature for row in catalog.page()] == [2, 5]
        assert catalog.search("nurse")[0].top_tokens == (" nurse",)
    assert run_from_table(rows, tmp_path / "run").fingerprint == run.fingerprint
    with pytest.raises(IncompatibleError):
        run_from_table(rows[:1], tmp_path / "run")


def test_words_of_sentencepiece_and_words_that_are_text_already(tmp_path: Path) -> None:
    (row,) = read_table(_written(tmp_path, [_record(0, "▁she her über 中")]))
    assert row.top_tokens == (" she", "her", "über", "中")
