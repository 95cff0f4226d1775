"""The table of features without a browser: what it finds, in which order, and what nobody can do to it."""

from __future__ import annotations

import csv
import io
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from browser import ADDRESS
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.explanations import ExplanationRow, write_explanations
from onesense.web.app import create_app
from onesense.web.feature_query import SORTS
from onesense.web.workspace import Workspace
from web.feature_runs import (
    FEATURES,
    FINGERPRINT,
    SCRIPT,
    make_debias_run,
    make_extract_run,
    make_senses_run,
)

PAYLOADS = [
    '"', '"""', "*", "**", "NEAR(", "NEAR(a b, 5)", "a OR OR b", "OR", "AND NOT", "promoted: she", "{promoted} : she",
    "^she", "she) OR (1=1", "'; DROP TABLE features; --", "%", "_", "\\", "\x00", "she\x00her", "a" * 1000,
    "* " * 500, "a* " * 300, '"' * 999, "(" * 500, "\u202e", "²", "1e9", "-1", "999999999", "x" * 40 + "*",
    "{{7*7}}", SCRIPT, "../../etc/passwd",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three runs that belong together."""
    make_extract_run(tmp_path / "runs" / "ex")
    make_senses_run(tmp_path / "runs" / "senses")
    make_debias_run(tmp_path / "runs" / "de")
    return tmp_path / "runs"


def _client(folder: Path) -> TestClient:
    app = create_app(Workspace([folder], folder), warm=False)
    return TestClient(app, base_url=ADDRESS, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def asked(folder: Path) -> Iterator[TestClient]:
    """Asks about these runs."""
    with _client(folder) as client:
        yield client


def _table(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.get("/runs/ex/features.json", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _found(client: TestClient, **query: Any) -> list[int]:
    return [row["feature"] for row in _table(client, **query)["rows"]]


def test_a_row_has_what_its_run_and_the_others_know(asked: TestClient) -> None:
    first = _table(asked)["rows"][0]
    assert first["explanation"] == "she, as a subject"  # the language model's before the word sets'
    assert first["promoted"] == [" she", " her"]
    assert (first["density"], first["max_activation"]) == (0.001, 5.0)
    assert (first["senses"], first["effect"]) == (2, 0.2)
    assert first["score"] == 0.7  # by detection, of the explanation that is shown, of the strictest judge
    assert first["address"] == "/runs/ex/features/0"


def test_a_feature_without_an_explanation_says_why(asked: TestClient) -> None:
    rows = {row["feature"]: row for row in _table(asked)["rows"]}
    assert (rows[3]["status"], rows[3]["explanation"], rows[3]["detail"]) == ("refused", "", "would not say")
    assert rows[7]["status"] == ""
    page = asked.get("/runs/ex/features").text
    assert "refused" in page
    assert "not explained" in page


def test_other_candidates_and_units_are_not_taken_for_features(asked: TestClient) -> None:
    rows = {row["feature"]: row for row in _table(asked)["rows"]}
    assert rows[1]["effect"] is None  # a candidate of another hook point
    assert rows[3]["senses"] is None  # a neuron


def test_what_other_runs_do_not_know_can_be_got(tmp_path: Path) -> None:
    make_extract_run(tmp_path / "ex")
    make_senses_run(tmp_path / "senses", fingerprint="cd" * 32)
    make_debias_run(tmp_path / "de", fingerprint="cd" * 32)
    with _client(tmp_path) as client:
        table = _table(client)
        page = client.get("/runs/ex/features").text
    assert table["senses_from"] is None
    assert table["effect_from"] is None
    assert all(row["senses"] is None and row["effect"] is None for row in table["rows"])
    assert "onesense senses measure small" in page
    assert "onesense debias small" in page


@pytest.mark.parametrize(
    ("search", "features"),
    [
        ("she", [0]),
        ("garden", [1]),
        ("garden*", [1, 7]),
        ("garden OR she", [0, 1]),
        ("gardens parks", [1]),
        ('"gardens parks"', [1]),
        ('"parks gardens"', []),
        ("hurricanes", [0]),  # the explanation of a sense
        ("frigate", [0]),  # a token of a sense
        ("neuron", []),
        ("nurse", [0]),  # suppressed
        ("refused", []),
        ("gard", [1, 7]),  # no word of that kind: words that begin so
        ("7", [7]),
        ("1984", [3]),
        ("5", []),
    ],
)
def test_search(asked: TestClient, search: str, features: list[int]) -> None:
    assert sorted(_found(asked, q=search)) == features


def test_search_says_where_the_words_are_and_when_it_widened(asked: TestClient) -> None:
    assert _table(asked, q="frigate")["rows"][0]["also"] == [{"where": "sense 2", "tokens": [" frigate"]}]
    assert _table(asked, q="nurse")["rows"][0]["also"] == [{"where": "suppresses", "tokens": [" nurse"]}]
    assert _table(asked, q="gard")["widened"] is True
    assert _table(asked, q="garden")["widened"] is False


@pytest.mark.parametrize(
    ("query", "features"),
    [
        ({"density_from": 2}, [1, 2, 3]),
        ({"density_from": 0.3, "density_to": 2}, [1, 2, 7]),
        ({"max_from": 7}, [1, 4, 7]),
        ({"max_to": 5}, [0, 2]),
        ({"senses_from": 2}, [0]),
        ({"senses_from": 0}, [0, 1]),  # not those that nobody counted
        ({"effect_from": 0.05}, [0, 7]),
        ({"score_from": 0.65}, [0]),
        ({"explained": 1}, [0, 1, 2]),
        ({"gender": 1}, [0]),
        ({"gender": 1, "max_from": 6}, []),
        ({"density_from": "", "explained": ""}, [0, 1, 2, 3, 4, 7]),
    ],
)
def test_filters(asked: TestClient, query: dict[str, Any], features: list[int]) -> None:
    assert _found(asked, **query) == features


@pytest.mark.parametrize(
    ("sort", "order", "features"),
    [
        ("", "", [0, 1, 2, 3, 4, 7]),
        ("feature", "desc", [7, 4, 3, 2, 1, 0]),
        ("density", "", [3, 1, 2, 7, 0, 4]),  # ties by number, unknown last
        ("density", "asc", [0, 7, 1, 2, 3, 4]),
        ("max_activation", "", [1, 4, 7, 0, 2, 3]),
        ("senses", "", [0, 1, 2, 3, 4, 7]),
        ("effect", "asc", [7, 0, 1, 2, 3, 4]),
        ("score", "asc", [1, 0, 2, 3, 4, 7]),
        ("explanation", "", [2, 1, 0, 3, 4, 7]),
        ("tokens", "desc", [0, 7, 1, 2, 3, 4]),
        ("match", "", [0, 1, 2, 3, 4, 7]),  # nothing to match
    ],
)
def test_order(asked: TestClient, sort: str, order: str, features: list[int]) -> None:
    assert _found(asked, sort=sort, order=order) == features


def test_pages(tmp_path: Path) -> None:
    make_extract_run(tmp_path / "ex", tuple(FeatureRow(feature) for feature in range(120)))
    with _client(tmp_path) as client:
        assert _found(client, page=3) == list(range(100, 120))
        assert _found(client, page=10**20) == list(range(100, 120))
        assert _found(client, page=0) == list(range(50))
        assert len(_found(client, per=100)) == 100
        assert len(_found(client, per=10**30)) == 120
        page = client.get("/runs/ex/features", params={"page": 2}).text
    assert "page 2 of 3" in page
    assert "120 of 120" in page
    assert 'href="/runs/ex/features?page=3"' in page


def test_every_example_of_the_first_page_finds_something(client: TestClient) -> None:
    page = client.get("/index.json").json()
    assert page["examples"]
    for words in page["examples"]:
        assert client.get(f"/runs/{page['searched']['id']}/features.json", params={"q": words}).json()[
            "found"
        ]


def test_a_number_leads_to_its_feature_where_search_is_pressed(asked: TestClient) -> None:
    answer = asked.get("/runs/ex/features", params={"q": " 7 ", "go": "1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/ex/features/7")
    assert asked.get("/runs/ex/features", params={"q": "6", "go": "1"}).status_code == 200


def test_the_only_run_opens_at_once_and_several_are_listed(asked: TestClient, folder: Path) -> None:
    assert asked.get("/features").headers["location"] == "/runs/ex/features"
    assert asked.get("/features.json").headers["location"] == "/runs/ex/features.json"
    make_extract_run(folder / "other")
    assert [run["id"] for run in asked.get("/features.json").json()["runs"]] == ["ex", "other"]
    shutil.rmtree(folder / "ex")
    shutil.rmtree(folder / "other")
    assert "onesense extract" in asked.get("/features").text


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_that_is_typed_is_syntax(asked: TestClient, folder: Path, payload: str) -> None:
    with sqlite3.connect(folder / "ex" / "catalog.sqlite") as connection:
        before = list(connection.iterdump())
    for address in ("/runs/ex/features", "/runs/ex/features.json", "/runs/ex/features.csv"):
        for name in ("q", "sort", "order", "density_from", "max_to", "page", "per", "explained", "go"):
            answer = asked.get(address, params={name: payload}, headers={"accept": "text/html"})
            assert answer.status_code in (200, 422), (name, answer.text)
            assert SCRIPT not in answer.text or "text/html" not in answer.headers["content-type"]
    with sqlite3.connect(folder / "ex" / "catalog.sqlite") as connection:
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "1e999", "abc", "0x10", "1;2", "density; DROP TABLE"]
)
def test_a_number_that_is_none_is_explained(asked: TestClient, value: str) -> None:
    answer = asked.get("/runs/ex/features", params={"density_from": value}, headers={"accept": "text/html"})
    assert answer.status_code == 422
    assert "The least density cannot be" in answer.text


@pytest.mark.parametrize("sort", ["density; DROP TABLE", "rowid", "features.feature", "1", "density--"])
def test_only_known_columns_sort(asked: TestClient, sort: str) -> None:
    answer = asked.get("/runs/ex/features.json", params={"sort": sort})
    assert answer.status_code == 422
    assert all(name in answer.json()["hint"] for name in SORTS)


def test_very_long_searches_and_broken_encodings_are_refused_or_read(asked: TestClient) -> None:
    assert asked.get("/runs/ex/features", params={"q": "a" * 60_000}).status_code == 422
    for raw in ("%ff%fe", "%ed%a0%80", "%00", "%F0%9F%98", "%e2%80%ae"):
        assert asked.get(f"/runs/ex/features?q={raw}").status_code == 200
        assert asked.get(f"/runs/{raw}/features").status_code == 404


def test_hostile_text_is_text(asked: TestClient) -> None:
    page = asked.get("/runs/ex/features", params={"q": SCRIPT}).text
    assert SCRIPT not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert "\x00" not in page


def test_csv_has_the_rows_of_every_page_and_no_formula(asked: TestClient) -> None:
    answer = asked.get("/runs/ex/features.csv", params={"sort": "density", "density_from": 1, "per": 50})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="ex-features.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["feature"] for row in rows] == ["3", "1", "2"]
    assert rows[2]["explanation"].startswith("'=HYPERLINK")
    assert rows[2]["promoted tokens"].startswith("'=cmd")
    assert (rows[1]["senses"], rows[1]["score"], rows[1]["gender effect (nats)"]) == ("1", "0.6", "")
    for row in rows:
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row.values())


def test_what_a_command_writes_meanwhile_is_shown(asked: TestClient, folder: Path) -> None:
    assert _found(asked, q="lighthouse") == []
    with Catalog(folder / "ex" / "catalog.sqlite") as writer:
        write_explanations(writer, [ExplanationRow(4, method="lexical", text="a lighthouse")])
        with writer.transaction() as connection:  # and it goes on writing
            connection.execute("UPDATE features SET density = 0.5 WHERE feature = 0")
            assert _found(asked, q="lighthouse", explained=1) == [4]
            assert _table(asked)["rows"][0]["density"] == 0.001
        assert _table(asked)["rows"][0]["density"] == 0.5
    make_debias_run(folder / "de")
    assert _table(asked)["rows"][0]["effect"] == 0.2


def test_a_run_that_is_rewritten_is_read_anew(asked: TestClient, folder: Path) -> None:
    assert len(_found(asked)) == len(FEATURES)
    shutil.rmtree(folder / "ex")
    make_extract_run(folder / "ex", FEATURES[:2])
    assert _found(asked) == [0, 1]


def test_a_table_that_takes_long_may_be_behind_but_never_of_another_run(
    asked: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onesense.web.feature_tables._QUICK_SECONDS", 0)
    monkeypatch.setattr("onesense.web.feature_tables._SHARE_OF_TIME", 1e-9)
    assert _found(asked, max_from=100) == []
    with sqlite3.connect(folder / "ex" / "catalog.sqlite") as connection:
        connection.execute("UPDATE features SET max_activation = 100 WHERE feature = 0")
    assert _found(asked, max_from=100) == []
    shutil.rmtree(folder / "ex")
    make_extract_run(folder / "ex", (FeatureRow(5, max_activation=100.0),))
    assert _found(asked, max_from=100) == [5]


def test_a_run_that_is_gone_or_not_ready_is_told(asked: TestClient, folder: Path) -> None:
    assert len(_found(asked)) == len(FEATURES)
    for file in (folder / "ex").glob("catalog.sqlite*"):
        file.unlink()
    gone = asked.get("/runs/ex/features", headers={"accept": "text/html"})
    assert gone.status_code == 404
    assert "has no features yet" in gone.text
    shutil.rmtree(folder / "ex")
    for address in ("/runs/ex/features", "/runs/ex/features.json", "/runs/ex/features.csv"):
        assert asked.get(address).status_code == 404


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_catalogue_is_told(asked: TestClient, folder: Path, content: bytes) -> None:
    for name in ("ex", "senses", "de"):
        for file in (folder / name).glob("catalog.sqlite*"):
            file.unlink()
        (folder / name / "catalog.sqlite").write_bytes(content)
        answer = asked.get("/runs/ex/features", headers={"accept": "text/html"})
        assert 400 <= answer.status_code < 500
        assert "Traceback" not in answer.text


def test_tokens_that_are_no_list_are_told(asked: TestClient, folder: Path) -> None:
    with sqlite3.connect(folder / "ex" / "catalog.sqlite") as connection:
        connection.execute("UPDATE features SET top_tokens = 'x' WHERE feature = 1")
    assert asked.get("/runs/ex/features.json").status_code == 422


def test_runs_of_other_commands_have_no_table(asked: TestClient) -> None:
    for run in ("senses", "de", "..%2Fex", "%2e%2e", "ex%00", "C:%5C", "x" * 5000):
        assert asked.get(f"/runs/{run}/features.json").status_code == 404


def test_the_query_is_in_the_addresses_of_the_page(asked: TestClient) -> None:
    query = {"q": 'a "b" & c', "density_from": "0.5", "explained": "1", "sort": "score"}
    page = asked.get("/runs/ex/features", params=query).text
    assert urlencode({"q": query["q"]}).replace("&", "&amp;") in page
    assert FINGERPRINT not in page
    again = asked.get("/runs/ex/features.json?" + urlencode(query))
    assert again.json()["sort"] == "score"
