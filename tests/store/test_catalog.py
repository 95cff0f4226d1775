import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import ConfigurationError, FormatError, IncompatibleError, NotFoundError, StorageError
from onesense.store import catalog_connection
from onesense.store.catalog import SORT_COLUMNS, Catalog, FeatureRow, match_expression

WORDS = ["Ġnurse", "▁he", "she's", 'quo"te', "NEAR", "été", "\u202eevil", "</script>", "", "40"]


def row(feature, **values):
    tokens = [WORDS[feature % len(WORDS)], "Ġcommon"]
    return FeatureRow(feature, **{"top_tokens": tokens, "bottom_tokens": [f"low{feature}"], **values})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ein Ordner #?%ü" / "catalog.sqlite"


@pytest.fixture
def catalog(path):
    with Catalog(path) as opened:
        opened.replace_features([row(feature) for feature in range(10)])
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Catalog(tmp_path_factory.mktemp("shared") / "catalog.sqlite") as opened:
        opened.replace_features([row(feature) for feature in range(10)])
        yield opened


numbers = st.none() | st.floats()


@given(
    rows=st.lists(
        st.builds(
            FeatureRow,
            feature=st.integers(0, 2**63 - 1),
            mean=numbers,
            std=numbers,
            skewness=numbers,
            kurtosis=numbers,
            sparsity=numbers,
            density=numbers,
            max_activation=numbers,
            top_tokens=st.lists(st.text(st.characters(codec=None)), max_size=3),
            bottom_tokens=st.lists(st.text(), max_size=2),
        ),
        max_size=5,
        unique_by=lambda built: built.feature,
    )
)
def test_rows_come_back(shared_for_rows, rows):
    shared_for_rows.replace_features(rows)
    found = shared_for_rows.page(limit=100)
    assert [one.feature for one in found] == sorted(one.feature for one in rows)
    for one in rows:
        back = shared_for_rows.feature(one.feature)
        assert list(back.top_tokens) == one.top_tokens
        assert list(back.bottom_tokens) == one.bottom_tokens
        for column in SORT_COLUMNS[1:]:
            value = getattr(one, column)
            unknown = value is None or not math.isfinite(value)
            assert getattr(back, column) == (None if unknown else value)


@pytest.fixture(scope="module")
def shared_for_rows(tmp_path_factory):
    with Catalog(tmp_path_factory.mktemp("rows") / "catalog.sqlite") as opened:
        yield opened


def found(catalog, query, **keywords):
    return [one.feature for one in catalog.search(query, **keywords)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("nurse", [0]),
        ("NURSE", [0]),
        ("nur", []),
        ("nur*", [0]),
        ("he", [1]),
        ("she's", [2]),
        ('quo"te', [3]),
        ("near", [4]),
        ("été", [5]),
        ("evil", [6]),
        ("script", [7]),
        ("40", [9]),
        ("low7", [7]),
        ("common low7", [7]),
        ("nurse low7", []),
        ("nurse OR low7", [0, 7]),
        ("common NOT low7", []),
        ("promoted: nurse", []),
        ("", []),
        ("   ", []),
        ("*", []),
        ('"', []),
    ],
)
def test_search_takes_words_and_no_syntax(shared, query, expected):
    assert found(shared, query) == expected


def test_a_word_that_all_have_finds_all_and_the_limit_holds(shared):
    assert sorted(found(shared, "common")) == list(range(10))
    assert len(found(shared, "common", limit=3)) == 3
    assert found(shared, "common", limit=0) == []


syntax = st.text(st.sampled_from("\"*():^+-{}NEARORNOT \0\ud800a,\n;'%_\\/é"))


@given(query=st.text(st.characters(codec=None)) | syntax)
def test_no_text_is_an_error_or_changes_anything(shared, query):
    assert len(shared.search(query, limit=5)) <= 5
    assert shared.count() == 10


@pytest.mark.parametrize("query", ["a" * 10**6, "a " * 10**5, '"' * 10**5, "(" * 10**5, "NEAR(" * 10**4])
def test_long_queries(shared, query):
    assert shared.search(query) == []
    assert len(match_expression(query) or "") < 3000


@pytest.mark.parametrize("query", ["'; DROP TABLE features; --", "1 OR 1=1", '" OR 1 --'])
def test_sql_in_a_query(shared, query):
    assert shared.search(query) == []
    assert shared.count() == 10


@pytest.mark.parametrize("descending", [False, True])
def test_pages_follow_the_column_with_unknown_values_last(catalog, descending):
    values = [3.0, None, 1.0, float("nan"), 2.0, 1.0]
    catalog.replace_features([row(feature, kurtosis=value) for feature, value in enumerate(values)])
    order = [one.feature for one in catalog.page("kurtosis", descending)]
    assert order == ([0, 4, 2, 5, 1, 3] if descending else [2, 5, 4, 0, 1, 3])
    paged = [
        one.feature for start in range(0, 6, 2) for one in catalog.page("kurtosis", descending, start, 2)
    ]
    assert paged == order


@pytest.mark.parametrize("column", SORT_COLUMNS)
def test_every_listed_column_sorts(shared, column):
    assert len(shared.page(column)) == 10


@pytest.mark.parametrize("sort", ["kurtosi", "top_tokens", "feature; DROP TABLE features", "", "1", "\0"])
def test_other_columns_are_refused(shared, sort):
    with pytest.raises(ConfigurationError) as caught:
        shared.page(sort)
    assert "kurtosis" in str(caught.value)


@pytest.mark.parametrize("bad", [-1, 2**63, -(2**70)])
def test_impossible_pages(shared, bad):
    for use in (
        lambda: shared.page(offset=bad),
        lambda: shared.page(limit=bad),
        lambda: shared.search("a", bad),
    ):
        with pytest.raises(ConfigurationError):
            use()


@pytest.mark.parametrize("feature", [-1, 10, 2**63, 10**30])
def test_a_feature_out_of_range_says_the_range(shared, feature):
    with pytest.raises(NotFoundError) as caught:
        shared.feature(feature)
    assert "0 to 9" in caught.value.hint


def test_readers_see_the_old_rows_until_the_new_ones_are_whole(catalog, path):
    with Catalog(path, read_only=True) as reader:

        def rows():
            yield row(0)
            assert reader.count() == 10
            yield row(1)

        catalog.replace_features(rows())
        assert reader.count() == 2


def test_a_closed_catalogue_holds_no_lock_whatever_still_points_at_its_answers(catalog, path) -> None:
    catalog.replace_features([FeatureRow(0), FeatureRow(1)])
    catalog.close()
    reader = Catalog(path, read_only=True)
    unread = reader._connection.execute("SELECT * FROM features")  # as the traceback of an error keeps it
    unread.fetchone()
    reader.close()
    other = sqlite3.connect(path, timeout=0)
    # Only alone can one leave the write-ahead log.
    assert other.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    other.close()
    with pytest.raises(sqlite3.ProgrammingError):
        unread.fetchone()


def test_a_reader_cannot_write(catalog, path):
    with Catalog(path, read_only=True) as reader, pytest.raises(StorageError):
        reader.replace_features([row(0)])
    assert catalog.count() == 10


def test_the_order_of_the_rows_does_not_change_the_bytes(tmp_path):
    for name, features in (("a", range(300)), ("b", reversed(range(300)))):
        with Catalog(tmp_path / name) as opened:
            opened.replace_features([row(feature, mean=feature / 7) for feature in features])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_doing_it_again_changes_no_byte(catalog, path):
    catalog.close()
    before = path.read_bytes()
    with Catalog(path) as again:
        again.replace_features([row(feature) for feature in range(10)])
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_killed_when_much_of_a_transaction_is_on_disk_already(tmp_path):
    code = """
import os, signal, sqlite3, sys
from onesense.store.catalog import Catalog, FeatureRow
seen = 0
def count(statement):
    global seen
    seen += statement.startswith("INSERT INTO search")
    if seen == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
connect = sqlite3.connect
def traced(*arguments, **keywords):
    connection = connect(*arguments, **keywords)
    connection.set_trace_callback(count)
    return connection
sqlite3.connect = traced
with Catalog(sys.argv[1]) as catalog:
    catalog.replace_features(FeatureRow(n, mean=n / 7, top_tokens=[f"w{n}x" * 20]) for n in range(9000))
"""

    def run(name, step):
        command = [sys.executable, "-c", code, tmp_path / name, str(step)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert run("killed", 8000) == -signal.SIGKILL
    assert (tmp_path / "killed-wal").stat().st_size > 100_000
    assert run("killed", -1) == 0
    assert run("whole", -1) == 0
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_full_disk_keeps_the_old_rows(catalog):
    pages = catalog._connection.execute("PRAGMA page_count").fetchone()[0]
    catalog._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageError, match="disk is full"):
        catalog.replace_features([row(feature, top_tokens=["long" * 200]) for feature in range(500)])
    assert [one.feature for one in catalog.page()] == list(range(10))


def test_a_limit_of_the_operating_system_itself(tmp_path):
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (90000, 90000))\n"
        "from onesense.errors import StorageError\n"
        "from onesense.store.catalog import Catalog, FeatureRow\n"
        "catalog = Catalog(sys.argv[1])\n"
        "try: catalog.replace_features(FeatureRow(n, top_tokens=['x' * 999]) for n in range(999))\n"
        "except StorageError as error: print('refused', catalog.count())\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "catalog.sqlite"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "refused 0\n"


@pytest.mark.parametrize("content", [b"x", b"not a database" * 400, b"SQLite format 3\0" + b"\0" * 5000])
def test_a_file_that_is_no_database(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    for read_only in (True, False):
        with pytest.raises(FormatError, match=re.escape(str(path))):
            Catalog(path, read_only=read_only)
    assert path.read_bytes() == content


def test_a_database_of_another_program(path):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(FormatError, match="not a catalogue"):
            Catalog(path, read_only=read_only)
    assert path.read_bytes() == before


def test_an_empty_file_is_none_for_a_reader_and_a_beginning_for_a_writer(path):
    path.parent.mkdir()
    path.touch()
    with pytest.raises(FormatError, match="not a catalogue"):
        Catalog(path, read_only=True)
    with Catalog(path) as opened:
        assert opened.count() == 0


def answers(path):
    with Catalog(path) as opened:
        rows = opened.page(limit=200)
        assert rows == [opened.feature(one.feature) for one in rows]
        return rows, opened.search("common", limit=200)


def test_a_damaged_page_is_an_error_and_never_a_wrong_answer(tmp_path):
    path = tmp_path / "catalog.sqlite"
    with Catalog(path) as opened:
        opened.replace_features([row(feature, mean=1.0) for feature in range(200)])
    whole, expected = path.read_bytes(), answers(path)
    refused = 0
    pages = len(whole) // 4096
    for page in range(pages):
        path.write_bytes(whole[: page * 4096] + b"\xff" * 4096 + whole[(page + 1) * 4096 :])
        try:
            assert answers(path) == expected
        except FormatError:
            refused += 1
    assert refused >= pages // 2  # these answers do not need the others


def test_a_catalogue_copied_without_its_log_is_whole_as_of_before(catalog, path, tmp_path):
    catalog._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    catalog.replace_features([row(feature) for feature in range(3)])
    shutil.copy(path, tmp_path / "copy.sqlite")
    with Catalog(tmp_path / "copy.sqlite", read_only=True) as copy:
        assert copy.count() == 10


def test_a_newer_catalogue(catalog, path):
    catalog._connection.execute("INSERT INTO migrations (name) VALUES ('m999_from_the_future')")
    for read_only in (True, False):
        with pytest.raises(IncompatibleError, match="m999_from_the_future"):
            Catalog(path, read_only=read_only)


def test_an_older_catalogue_is_brought_up_to_date_by_a_writer(path, monkeypatch):
    from onesense.store import migrations

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:2])
        Catalog(path).close()
    with pytest.raises(IncompatibleError, match="older"):
        Catalog(path, read_only=True)
    with Catalog(path) as updated:
        updated.replace_features([row(0)])
        assert found(updated, "nurse") == [0]


def test_a_read_only_folder(path, monkeypatch):
    with Catalog(path) as opened:
        opened.replace_features([row(0)])
    connect = sqlite3.connect

    class Blocked(sqlite3.Connection):
        def execute(self, *arguments):
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error

    def blocked(address, factory, **keywords):
        kind = factory if "immutable=1" in address else Blocked
        return connect(address, factory=kind, **keywords)

    monkeypatch.setattr(catalog_connection.sqlite3, "connect", blocked)
    with Catalog(path, read_only=True) as reader:
        assert found(reader, "nurse") == [0]
    with pytest.raises(StorageError):
        Catalog(path)


def test_absent(path):
    with pytest.raises(NotFoundError):
        Catalog(path, read_only=True)
    assert not os.path.exists(path)
