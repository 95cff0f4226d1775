"""Catalogues with damage that SQLite itself does not notice."""

import re
import sqlite3
from contextlib import closing

import pytest

from onesense.errors import FormatError
from onesense.store.catalog import Catalog, FeatureRow


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite"


def row(feature, **values):
    return FeatureRow(
        feature, **{"top_tokens": ["nurse", "common"], "bottom_tokens": [f"low{feature}"], **values}
    )


@pytest.mark.parametrize("spoiled", ["not JSON", "3", "null", '{"a": 1}', 7, b"\xff"])
def test_a_row_that_holds_no_list_is_told(path, spoiled):
    catalog = Catalog(path)
    catalog.replace_features([row(feature) for feature in range(10)])
    with catalog.transaction() as connection:
        connection.execute("UPDATE features SET top_tokens = ? WHERE feature = 3", (spoiled,))
    assert catalog.feature(2).top_tokens
    with pytest.raises(FormatError, match="damaged"):
        catalog.feature(3)
    catalog.close()


def test_a_table_whose_name_is_no_text_is_told(path):
    with Catalog(path) as made:
        made.replace_features([row(0)])
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE features", b"CREATE TABLE \xed\xa0\x80atures"))
    for read_only in (True, False):
        with pytest.raises(FormatError, match=re.escape(path.name)):
            Catalog(path, read_only=read_only)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE features SET mean = 7 WHERE feature = 3",
        "UPDATE features SET top_tokens = replace(top_tokens, 'c', 'd')",
        "DELETE FROM features WHERE feature = 5",
        "UPDATE search_content SET c0 = 'other' WHERE id = 4",
    ],
)
def test_features_that_are_no_longer_what_was_written_are_put_back(path, damage):
    rows = [row(feature, mean=feature / 3) for feature in range(10)]
    with Catalog(path) as catalog:
        catalog.replace_features(rows)
        before = catalog.page()
        with catalog.transaction() as connection:
            connection.execute(damage)
    with Catalog(path) as catalog:
        catalog.replace_features(rows)
        assert catalog.page() == before
        assert sorted(found.feature for found in catalog.search("common", limit=20)) == list(range(10))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE search_data SET block = zeroblob(8) WHERE id = 10",  # SQLite calls it a constraint that failed
        "UPDATE search_data SET block = zeroblob(8) WHERE id = 1",
        "DELETE FROM search_data",
        "DELETE FROM search_config",
        "DELETE FROM search_idx",
        "DELETE FROM search_content",
        "UPDATE search_docsize SET sz = x'ffffffff'",
    ],
)
def test_a_word_index_that_contradicts_itself_is_told_or_made_again(tmp_path, damage) -> None:
    path = tmp_path / "catalog.sqlite"
    with Catalog(path) as catalog:
        catalog.replace_features([FeatureRow(n, top_tokens=[f"w{n}", "sea"]) for n in range(3)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
        connection.commit()
    try:
        with Catalog(path) as catalog:
            catalog.replace_features([FeatureRow(n, top_tokens=["new"]) for n in range(2)])
    except FormatError:
        return  # told, and what to do about it
    with Catalog(path, read_only=True) as catalog:
        assert [row.feature for row in catalog.search("new")] == [0, 1]
        assert not catalog.search("sea")


def test_our_own_mistakes_are_not_called_damage(tmp_path) -> None:
    with (
        Catalog(tmp_path / "catalog.sqlite") as catalog,
        pytest.raises(sqlite3.IntegrityError, match="UNIQUE"),
    ):
        catalog.replace_features([FeatureRow(1), FeatureRow(1)])
