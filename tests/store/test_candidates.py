"""Candidates in the catalogue: kept, sorted, filtered."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from onesense.errors import ConfigurationError
from onesense.store.candidates import SORT_COLUMNS, CandidateRow
from onesense.store.catalog import Catalog, FeatureRow

A, B = "blocks.1.hook_resid_post", "blocks.2.hook_resid_post"
ROWS = [
    CandidateRow(A, 7, bias=0.5, fact=0.1, kl=0.25, factor=0.2, without_spread=0.75, promoted=(" she", "“")),
    CandidateRow(B, 7, bias=0.9, fact=-0.1, density=0.125, suppressed=(" he",)),
    CandidateRow(A, 3, bias=0.7, swapped=math.nan, factor=1.5),
    CandidateRow(B, 1, bias=None, fact=0.3),
]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    with Catalog(tmp_path / "catalog.sqlite") as made:
        made.replace_candidates(ROWS)
    return Catalog(tmp_path / "catalog.sqlite", read_only=True)


def _keys(rows: list[CandidateRow]) -> list[tuple[str, int]]:
    return [(row.hook_point, row.feature) for row in rows]


def test_what_is_kept_is_read(catalog: Catalog) -> None:
    found = {(row.hook_point, row.feature): row for row in catalog.candidates()}
    assert found[A, 7] == ROWS[0]
    assert found[B, 7] == ROWS[1]
    assert found[A, 3].swapped is None  # NaN is unknown


def test_the_order_is_that_of_a_number_unknown_last(catalog: Catalog) -> None:
    assert _keys(catalog.candidates()) == [(B, 7), (A, 3), (A, 7), (B, 1)]
    assert _keys(catalog.candidates("fact")) == [(B, 1), (A, 7), (B, 7), (A, 3)]
    assert _keys(catalog.candidates("fact", descending=False)) == [(B, 7), (A, 7), (B, 1), (A, 3)]
    assert _keys(catalog.candidates("feature", descending=False)) == [(B, 1), (A, 3), (A, 7), (B, 7)]
    for sort in SORT_COLUMNS:
        assert len(catalog.candidates(sort)) == 4


def test_filters(catalog: Catalog) -> None:
    assert _keys(catalog.candidates(hook_point=A)) == [(A, 3), (A, 7)]
    assert _keys(catalog.candidates(edited=True)) == [(A, 3), (A, 7)]
    assert _keys(catalog.candidates(hook_point=B, edited=True)) == []
    assert _keys(catalog.candidates(limit=1)) == [(B, 7)]
    assert catalog.candidates(hook_point="' OR 1=1 --") == []


def test_bad_input_is_told(catalog: Catalog) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean density") as told:
        catalog.candidates("densty")
    assert "toward_women" in str(told.value)
    with pytest.raises(ConfigurationError, match="Cannot sort"):
        catalog.candidates("bias; DROP TABLE candidates")
    with pytest.raises(ConfigurationError, match="limit"):
        catalog.candidates(limit=-1)


def test_the_same_candidates_change_no_byte_and_others_replace_them(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with Catalog(path) as catalog:
        catalog.replace_features([FeatureRow(1)])
        catalog.replace_candidates(ROWS)
    before = path.read_bytes()
    with Catalog(path) as catalog:
        catalog.replace_candidates(reversed(ROWS))
    assert path.read_bytes() == before
    with Catalog(path) as catalog:
        catalog.replace_candidates(ROWS[:1])
        assert _keys(catalog.candidates()) == [(A, 7)]
        assert catalog.count() == 1
