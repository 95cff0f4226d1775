"""Senses of a run: the picture is of the numbers, units are found, their contexts are shown or explained."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from browser import asking
from onesense.explain.scores.metrics import share
from onesense.web.sense_distribution import distribution
from onesense.web.sense_picture import picture
from web.report_runs import make_run, make_runs, make_senses

RUN = "/runs/senses-gentle/senses"


def test_shares_have_wilsons_intervals() -> None:
    counted = {"neurons": {1: 30, 3: 10}, "features": {None: 5, 1: 90, 2: 10}, "dead": {None: 2}}
    features, neurons, dead = distribution(counted, ["features"])
    assert (features.name, features.units, features.known) == ("features", 105, 100)
    assert [one.units for one in features.shares] == [90, 10, 0]
    assert features.several is not None
    assert features.several.interval == share(10, 100)
    assert [one.title for one in neurons.shares] == ["1 sense", "2 senses", "3 senses"]
    assert neurons.shares[2].interval == share(10, 40)
    assert (dead.known, dead.several, dead.shares) == (0, None, [])


def test_the_picture_has_a_bar_for_each_share() -> None:
    hostile = "<script>alert(1)</script>"
    drawn = picture(distribution({"features": {1: 90, 2: 10}, hostile: {1: 30, 6: 10}}, ["features"]))
    assert drawn is not None
    assert drawn.count("<rect") == 2 * 7  # more than one, then 1 to 6
    assert "<script>" not in drawn
    assert "25.0 %" in drawn
    assert "6 or more" in drawn
    assert picture(distribution({"features": {None: 3}}, ["features"])) is None
    assert picture([]) is None


def test_runs_are_listed_with_what_a_sense_is(ask: TestClient) -> None:
    page = ask.get("/senses").text
    assert f'href="{RUN}"' in page
    assert "Each group is a sense" in page
    assert "25.0 %" in page
    assert "onesense senses measure demo" not in page


def test_without_runs_it_says_how_to_make_one(tmp_path: Path) -> None:
    with asking(tmp_path) as ask:
        assert "onesense senses measure demo" in ask.get("/senses").text


def test_units_are_sorted_filtered_and_paged(ask: TestClient) -> None:
    def units(query: str) -> list[int]:
        return [row["unit"] for row in ask.get(f"{RUN}.json?{query}").json()["units"]]

    assert units("sort=unit&order=up")[:3] == [0, 0, 1]
    assert units("units=features&sort=several")[:2] == [119, 118]
    assert units("units=features&least=2&sort=unit&order=up")[:2] == [0, 4]
    assert units("units=residual-basis&least=1") == [0, 1, 2]
    assert len(units("units=features&page=3")) == 20
    assert units("find=HER&units=residual-basis") == []
    assert len(units("find=HER")) == 50
    found = ask.get(f"{RUN}.json?units=features").json()
    assert (found["count"], found["pages"], len(found["units"])) == (120, 3, 50)


def test_a_sorted_table_is_an_address_to_share(ask: TestClient) -> None:
    page = ask.get(f"{RUN}?find=her&units=features&least=1&sort=effective&order=up").text
    assert 'value="her"' in page
    assert 'aria-sort="ascending"' in page
    assert "?units=features&least=1&find=her&sort=effective&order=down" in page.replace("&amp;", "&")
    assert 'rel="next" href="/runs/senses-gentle/senses?units=features' in page


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("?sort=tokens", 422), ("?sort=several;DROP TABLE senses", 422), ("?order=sideways", 422),
        ("?units=nobody", 422), ("?page=4", 404), ("?page=-1", 422), ("?page=99999999999999999999", 422),
        ("?least=-1", 422), ("?least=1e9", 422), ("?find=" + "x" * 101, 422), ("?find=%25", 200),
        ("?find=%00", 200), ("?find=%ff%fe", 200), ("?find=%22*NEAR(", 200), ("?find='%20OR%201=1--", 200),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_told(ask: TestClient, asked: str, status: int) -> None:
    for address in (RUN + asked, f"{RUN}.json{asked}"):
        answer = ask.get(address, headers={"accept": "text/html"})
        assert answer.status_code == status
        assert "Traceback" not in answer.text
    if status == 200:
        assert ask.get(f"{RUN}.json{asked}").json()["count"] == 0


def test_a_unit_has_each_sense_with_its_contexts(ask: TestClient) -> None:
    found = ask.get(f"{RUN}/features/0.json").json()
    first, second = found["senses"]
    assert (first["contexts"], second["contexts"]) == (2, 1)
    assert first["share"] == pytest.approx(6 / 9)
    peaks = [[token["peak"] for token in line].index(True) for line in first["shown"]]
    assert peaks == [5, 6]  # the window begins at its first token
    assert [token["activation"] for token in first["shown"][0]][4:8] == [None, 4.0, 2.0, None]
    assert len(second["shown"][0]) == 16  # of the second document only
    assert found["feature"] == "/runs/extract/features/0"
    page = ask.get(f"{RUN}/features/0").text
    assert "Sense 2" in page
    assert 'class="t h5 peak" title="4"' in page
    assert 'href="/runs/extract/features/0"' in page
    assert "/runs/extract" not in ask.get(f"{RUN}/residual-basis/0").text


def test_a_unit_of_unknown_senses_says_so(ask: TestClient) -> None:
    assert "too few contexts" in ask.get(f"{RUN}/residual-basis/3").text


@pytest.mark.parametrize(
    "unit",
    [
        "features/120", "features/-1", "features/x", "features/99999999999999999999", "neurons/0", "..%2f/0",
        "%00/0", "features/1?contexts=0", "features/1?contexts=1000",
    ],
)  # fmt: skip
def test_units_that_are_not_there(ask: TestClient, unit: str) -> None:
    assert ask.get(f"{RUN}/{unit}").status_code in (404, 422)


@pytest.mark.parametrize("damage", ["no text", "damaged table", "another shape", "no tokenizer"])
def test_contexts_that_cannot_be_shown_are_explained(own: Path, damage: str) -> None:
    run = own / "senses gentle"
    if damage == "no text":
        shutil.rmtree(run / "activity")
    elif damage == "damaged table":
        (run / "senses" / "features.safetensors").write_bytes(b"\x00" * 50)
    elif damage == "another shape":
        shutil.copy(run / "activity" / "shard-0000.safetensors", run / "senses" / "features.safetensors")
    else:
        shutil.rmtree(run)
        make_senses(run, [" she"], model="/nowhere/at/all")
    with asking(own) as ask:
        answer = ask.get(f"{RUN}/features/0", headers={"accept": "text/html"})
        assert answer.status_code == 200
        assert "The contexts cannot be shown" in answer.text
        assert "Looks like several" in answer.text  # the numbers still are


def test_a_run_that_is_not_finished_says_what_to_run(own: Path) -> None:
    make_run(own / "new", "senses measure", {"model": "demo"})
    with asking(own) as ask:
        answer = ask.get("/runs/new/senses", headers={"accept": "text/html"})
        assert answer.status_code == 404
        assert "onesense senses measure" in answer.text
        assert "The run new has no senses yet." in ask.get("/senses").text


def test_a_damaged_catalogue_is_explained(own: Path) -> None:
    path = own / "senses gentle" / "catalog.sqlite"
    for leftover in path.parent.glob("catalog.sqlite-*"):
        leftover.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE senses SET tokens = ?", ("no JSON",))
    connection.close()
    with asking(own) as ask:
        assert ask.get(RUN).status_code == 422
        assert ask.get(f"{RUN}?find=her").status_code < 500
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
        assert ask.get(RUN).status_code in (404, 409, 422)
        assert ask.get("/senses").status_code == 200
        shutil.rmtree(path.parent)
        assert ask.get(RUN).status_code == 404
        assert RUN not in ask.get("/senses").text


def test_nothing_that_a_token_says_runs(tmp_path: Path) -> None:
    folder = make_runs(tmp_path / "runs", hostile=True)
    run = "/runs/senses-img-src-x-onerror-alert-2/senses"
    attack = "%3Cscript%3Ealert(1)%3C/script%3E%22"
    with asking(folder) as ask:
        for address in ("/senses", run, f"{run}?find={attack}", f"{run}/features/0"):
            answer = ask.get(address)
            assert answer.status_code == 200
            for one in ("<script>alert", "<img src=x", "\u202e", "\u0007"):
                assert one not in answer.text, (address, one)
        twin = ask.get(f"{run}.json")
        assert twin.headers["content-type"] == "application/json"
        assert json.loads(twin.text)["units"][0]["tokens"][0][0] == " she"
