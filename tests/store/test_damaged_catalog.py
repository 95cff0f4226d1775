"""Catalogues with damage that SQLite itself does not notice."""

import re

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
