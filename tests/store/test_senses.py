"""Senses in the catalogue: kept, sorted, filtered."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from onesense.errors import ConfigurationError
from onesense.store import migrations
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.senses import (
    SORT_COLUMNS,
    SenseRow,
    count_senses,
    read_senses,
    replace_senses,
    sense_numbers,
)

ROWS = [
    SenseRow(
        "features", 7, number=2, effective=1.75, several=0.9, documents=30, tokens=((" she", "“"), (" the",))
    ),
    SenseRow("neurons", 7, number=3, effective=2.5, several=0.95, density=0.125, tokens=(("a",), (), ("b",))),
    SenseRow("features", 3, number=1, effective=1.0, several=0.1, separation=math.nan),
    SenseRow("features", 1, number=None, effective=math.nan, several=None, documents=1),
]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    with Catalog(tmp_path / "catalog.sqlite") as made:
        replace_senses(made, ROWS)
    return Catalog(tmp_path / "catalog.sqlite", read_only=True)


def _keys(rows: list[SenseRow]) -> list[tuple[str, int]]:
    return [(row.unit_set, row.unit) for row in rows]


def test_what_is_kept_is_read(catalog: Catalog) -> None:
    found = {(row.unit_set, row.unit): row for row in read_senses(catalog)}
    assert found["features", 7] == ROWS[0]
    assert found["neurons", 7] == ROWS[1]
    assert found["features", 3].separation is None  # NaN is unknown
    assert found["features", 1] == SenseRow("features", 1, documents=1)


def test_the_order_is_that_of_a_number_unknown_last(catalog: Catalog) -> None:
    order = [("neurons", 7), ("features", 7), ("features", 3), ("features", 1)]
    assert _keys(read_senses(catalog)) == order
    assert _keys(read_senses(catalog, descending=False)) == [*order[2::-1], order[3]]
    assert _keys(read_senses(catalog, "unit")) == [order[1], order[0], order[2], order[3]]
    for sort in SORT_COLUMNS:
        assert len(read_senses(catalog, sort)) == 4


def test_filters(catalog: Catalog) -> None:
    assert _keys(read_senses(catalog, unit_set="neurons")) == [("neurons", 7)]
    assert _keys(read_senses(catalog, unit=7)) == [("neurons", 7), ("features", 7)]
    assert _keys(read_senses(catalog, least=2)) == [("neurons", 7), ("features", 7)]
    assert _keys(read_senses(catalog, least=1, unit_set="features", limit=1)) == [("features", 7)]
    assert read_senses(catalog, unit_set="' OR 1=1 --") == []
    assert read_senses(catalog, limit=0) == []


def test_bad_input_is_told(catalog: Catalog) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean several"):
        read_senses(catalog, "sevral")
    with pytest.raises(ConfigurationError, match="Cannot sort"):
        read_senses(catalog, "several; DROP TABLE senses")
    with pytest.raises(ConfigurationError, match="limit"):
        read_senses(catalog, limit=-1)


def test_the_same_senses_change_no_byte_and_others_replace_them(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with Catalog(path) as catalog:
        catalog.replace_features([FeatureRow(1)])
        replace_senses(catalog, ROWS)
    before = path.read_bytes()
    with Catalog(path) as catalog:
        replace_senses(catalog, reversed(ROWS))
    assert path.read_bytes() == before
    with Catalog(path) as catalog:
        replace_senses(catalog, ROWS[:1])
        assert _keys(read_senses(catalog)) == [("features", 7)]
        assert catalog.count() == 1


def test_rows_that_cannot_be_kept_leave_the_old_ones(tmp_path: Path) -> None:
    with Catalog(tmp_path / "catalog.sqlite") as catalog:
        replace_senses(catalog, ROWS)

        def broken() -> object:
            yield ROWS[0]
            raise InterruptedError

        with pytest.raises(InterruptedError):
            replace_senses(catalog, broken())  # type: ignore[arg-type]
        assert len(read_senses(catalog)) == 4


def test_an_older_catalogue_gains_senses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "catalog.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:5])
        with Catalog(path) as old:
            old.replace_features([FeatureRow(4)])
    with Catalog(path) as catalog:
        replace_senses(catalog, ROWS)
        assert len(read_senses(catalog)) == 4
        assert catalog.count() == 1


def test_units_are_found_by_a_token_of_a_sense(catalog: Catalog) -> None:
    assert _keys(read_senses(catalog, tokens="SHE")) == [("features", 7)]
    assert _keys(read_senses(catalog, tokens="“")) == [("features", 7)]
    assert _keys(read_senses(catalog, tokens="a")) == [("neurons", 7)]  # not in what JSON puts between tokens
    for nothing in ('", "', "], [", "u201c", "%", "_", "!", "' OR 1=1 --", "\\"):
        assert read_senses(catalog, tokens=nothing) == []
        assert count_senses(catalog, tokens=nothing) == 0


def test_pages_follow_each_other(catalog: Catalog) -> None:
    pages = [read_senses(catalog, "unit", False, offset=at, limit=3) for at in (0, 3, 6)]
    assert [len(page) for page in pages] == [3, 1, 0]
    assert _keys([*pages[0], *pages[1]]) == _keys(read_senses(catalog, "unit", False))
    with pytest.raises(ConfigurationError, match="offset"):
        read_senses(catalog, offset=-1)


def test_units_are_counted_by_their_number_of_senses(catalog: Catalog) -> None:
    assert sense_numbers(catalog) == {"features": {None: 1, 1: 1, 2: 1}, "neurons": {3: 1}}
    assert count_senses(catalog) == 4
    assert count_senses(catalog, unit_set="features", least=1) == 2
