"""Tuning by hand without a browser: what is shown, what is measured and saved, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from browser import ADDRESS
from onesense.steer.edit import Operation
from onesense.steer.recipe import read_recipe
from onesense.web.app import create_app
from onesense.web.workspace import Workspace
from web.tuned_runs import EDITED, FIXED, HOOK_POINT, STACKED, STRONGEST, make_tuned_runs

RECIPE = "bias.kl-0-01"


@pytest.fixture(scope="module")
def folder(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_runs(demo_run, tmp_path_factory.mktemp("tune") / "runs")


@pytest.fixture(scope="module")
def tuner(folder: Path) -> Iterator[TestClient]:
    """Asks one application, so that the model is loaded once."""
    app = create_app(Workspace([folder], folder), warm=False)
    with TestClient(app, base_url=ADDRESS, headers={"x-onesense": "1"}) as made:
        yield made


@pytest.fixture(scope="module")
def key(tuner: TestClient) -> str:
    return str(tuner.get("/tune.json", params={"recipe": RECIPE}).json()["dictionaries"][0]["key"])


def _last(answer: Response) -> tuple[str, Any]:
    """The last event of a stream."""
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.splitlines() if line.startswith(("event: ", "data: "))]
    return lines[-2].removeprefix("event: "), json.loads(lines[-1].removeprefix("data: "))


def test_recipes_to_choose_from_say_where_they_come_from(tuner: TestClient) -> None:
    listed = {one["id"]: one for one in tuner.get("/tune.json").json()["recipes"]}
    assert (listed[RECIPE]["source"], listed[RECIPE]["edits"]) == ("debias run bias", 4)
    assert listed["saved.damaged"]["problem"]
    assert "cannot be read" in tuner.get("/tune").text


def test_without_recipes_the_page_says_what_to_run(client: TestClient) -> None:
    assert "onesense debias demo" in client.get("/tune").text


def test_a_run_opens_its_chosen_recipe(tuner: TestClient) -> None:
    page = tuner.get("/tune.json", params={"run": "bias"}).json()
    assert page["recipe"]["id"] == RECIPE
    assert tuner.get("/tune", params={"run": "demo"}).status_code == 404


def test_features_come_by_the_bias_that_they_carry_and_other_edits_stay(tuner: TestClient) -> None:
    page = tuner.get("/tune.json", params={"recipe": RECIPE}).json()
    sliders = {one["feature"]: one for one in page["sliders"]}
    assert list(sliders) == [STRONGEST, EDITED, STACKED]
    assert [sliders[one]["factor"] for one in (STRONGEST, EDITED, STACKED)] == [1.0, 0.25, 0.5]
    assert sliders[STRONGEST]["edited"] is False
    assert sliders[STACKED]["also"] == ["add −0.125"]
    assert sliders[EDITED]["run"] == "demo"
    assert [(one["feature"], one["words"]) for one in page["fixed"]] == [(FIXED, "clamp 1")]


def test_a_draft_begins_with_every_candidate(tuner: TestClient) -> None:
    page = tuner.get("/tune.json", params={"draft": 1, "model": "demo"}).json()
    assert [one["feature"] for one in page["sliders"]] == [STRONGEST, EDITED]
    assert all(one["factor"] == 1 for one in page["sliders"])


def test_measured_with_intervals_and_the_same_again(tuner: TestClient, key: str) -> None:
    def measure(*factors: tuple[int, float]) -> Any:
        asked = [{"dictionary": key, "feature": feature, "factor": factor} for feature, factor in factors]
        name, data = _last(tuner.post("/api/tune/measure", json={"recipe": RECIPE, "factors": asked}))
        assert name == "done", data
        return data["measures"]

    began, off = measure(), measure((STRONGEST, 0.0))
    for one in (*began.values(), *off.values()):
        assert one["low"] <= one["value"] <= one["high"]
    assert off["facts"]["value"] < began["facts"]["value"]
    assert off["kl"]["value"] > began["kl"]["value"]
    assert measure((STRONGEST, 0.0)) == off
    assert measure((STRONGEST, 1.0)) == began
    assert measure((EDITED, 0.25)) == began


def test_a_draft_is_measured_with_its_own_edits(tuner: TestClient, key: str) -> None:
    edits = [{"dictionary": key, "feature": STRONGEST, "operation": "scale", "value": 0.5}]
    factors = [{"dictionary": key, "feature": STRONGEST, "factor": 1}]
    _, edited = _last(tuner.post("/api/tune/measure", json={"edits": edits}))
    _, back = _last(tuner.post("/api/tune/measure", json={"edits": edits, "factors": factors}))
    assert edited["measures"]["kl"]["value"] > 0
    assert [one["value"] for one in back["measures"].values()] == pytest.approx([1, 1, 1, 0], abs=1e-6)


def test_saved_as_a_recipe_of_its_own(tuner: TestClient, key: str, folder: Path) -> None:
    factors = [
        {"dictionary": key, "feature": STACKED, "factor": 0.75},
        {"dictionary": key, "feature": STRONGEST, "factor": -1},
    ]
    asked = {"recipe": RECIPE, "factors": factors, "name": "By hand"}
    name, made = _last(tuner.post("/api/recipes/tuned", json=asked))
    assert (name, made["id"], made["edits"]) == ("done", "saved.by-hand", 5)
    assert made["tune_command"] == ""  # the command would take the other edit out
    assert made["audit_command"].startswith("onesense audit demo --recipe ")
    edits = read_recipe(folder / "recipes" / "By hand.json").parts[0].edits
    factor = {edit.feature: edit.value for edit in edits if edit.operation is Operation.SCALE}
    assert factor == {EDITED: 0.25, STACKED: 0.75, STRONGEST: -1.0}
    assert {edit.operation for edit in edits} == {Operation.SCALE, Operation.ADD, Operation.CLAMP}
    again = tuner.post("/api/recipes/tuned", json=asked)
    assert again.status_code in (400, 409, 422)
    assert "already" in again.json()["error"]


def test_the_command_line_says_the_same(tuner: TestClient, key: str) -> None:
    asked = {
        "recipe": RECIPE,
        "factors": [{"dictionary": key, "feature": EDITED, "factor": 0.3}],
        "name": "line",
    }
    _, made = _last(tuner.post("/api/recipes/tuned", json=asked))
    assert f"--set {HOOK_POINT}/{EDITED}=0.3" in made["tune_command"]


@pytest.mark.parametrize(
    "change",
    [
        {"factor": "Infinity"},
        {"factor": 1e9},
        {"factor": None},
        {"feature": -1},
        {"feature": 2**60},
        {"feature": 1.5},
        {"dictionary": "../../etc"},
        {"more": 1},
    ],
)
@pytest.mark.parametrize("address", ["/api/tune/measure", "/api/recipes/tuned"])
def test_what_cannot_be_a_factor_is_refused(
    tuner: TestClient, key: str, address: str, change: dict[str, Any]
) -> None:
    factor = {"dictionary": key, "feature": 1, "factor": 0.5, **change}
    asked = {"recipe": RECIPE, "factors": [factor], "name": "refused"}
    if address.endswith("measure"):
        del asked["name"]
    answer = tuner.post(address, json=asked)
    assert answer.status_code == 422
    assert answer.json()["error"]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(tuner: TestClient, key: str, text: str) -> None:
    body = f'{{"recipe": "{RECIPE}", "factors": [{{"dictionary": "{key}", "feature": 1, "factor": {text}}}]}}'
    answer = tuner.post("/api/tune/measure", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


def test_too_many_factors_are_refused(tuner: TestClient, key: str) -> None:
    factors = [{"dictionary": key, "feature": one, "factor": 0.5} for one in range(10_000)]
    answer = tuner.post("/api/tune/measure", json={"recipe": RECIPE, "factors": factors})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"factors": [{"dictionary": "0" * 12, "feature": 1, "factor": 0}]}, "No run has this dictionary"),
        ({"factors": [{"dictionary": "KEY", "feature": 10**9, "factor": 0}]}, "There is no feature"),
        ({"recipe": "saved.other-model"}, "has other weights"),
        ({"recipe": "saved.damaged"}, "damaged.json"),
        ({"recipe": None}, "There is no edit"),
        ({"edits": [{"dictionary": "KEY", "feature": 1, "operation": "ablate"}]}, "not both"),
    ],
)
def test_what_goes_wrong_is_told(tuner: TestClient, key: str, asked: dict[str, Any], told: str) -> None:
    body = json.loads(json.dumps({"recipe": RECIPE, **asked}).replace("KEY", key))
    name, data = _last(tuner.post("/api/tune/measure", json=body))
    assert name == "failed"
    assert told in data["message"]


@pytest.mark.parametrize(
    "address", ["/tune?recipe=../../etc/passwd", "/tune?run=..%2f..", "/tune?recipe=saved.none"]
)
def test_recipes_that_nobody_knows_are_not_found(tuner: TestClient, address: str) -> None:
    assert tuner.get(address).status_code == 404
    gone = {"recipe": address.partition("=")[2]}
    assert tuner.post("/api/tune/measure", json=gone).status_code == 404
    assert tuner.post("/api/recipes/tuned", json={**gone, "name": "new"}).status_code == 404


def test_names_that_lead_elsewhere_are_refused(tuner: TestClient) -> None:
    for name in ("../up", "a/b", ".hidden", "<b>", "x" * 61, ""):
        answer = tuner.post("/api/recipes/tuned", json={"recipe": RECIPE, "name": name})
        assert 400 <= answer.status_code < 500, name
