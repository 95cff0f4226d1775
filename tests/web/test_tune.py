"""Tuning by hand: the factors of a recipe, the quick audit, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from browser import GARDENS
from onesense.steer.recipe import read_recipe


def last_event(answer: Any) -> tuple[str, Any]:
    """Name and data of the last of the events that were streamed."""
    event = answer.text.strip().split("\n\n")[-1]
    name, data = event.split("\n", 1)
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.fixture
def key(client: TestClient) -> str:
    """The demo's dictionary."""
    found: str = client.get("/steer.json").json()["dictionaries"][0]["key"]
    return found


@pytest.fixture
def saved(client: TestClient, key: str, demo_run: Path) -> Iterator[str]:
    """The id of a recipe that turns one feature off."""
    name = "gardens off"
    edit = {"dictionary": key, "feature": GARDENS, "operation": "scale", "value": 0.0}
    event, data = last_event(client.post("/api/recipes", json={"name": name, "edits": [edit]}))
    assert event == "done", data
    yield str(data["id"])
    (demo_run / "recipes" / f"{name}.json").unlink()


def test_the_sliders_are_those_of_the_recipe(client: TestClient, saved: str, key: str) -> None:
    data = client.get("/tune.json", params={"recipe": saved}).json()
    found = {(one["dictionary"], one["feature"]): one["factor"] for one in data["sliders"]}
    assert found[key, GARDENS] == 0.0
    assert data["fixed"] == []
    assert saved in client.get("/tune").text


def test_the_quick_audit_tells_what_factors_do(client: TestClient, saved: str, key: str) -> None:
    factor = {"dictionary": key, "feature": GARDENS, "factor": 1.0}
    event, untouched = last_event(
        client.post("/api/tune/measure", json={"recipe": saved, "factors": [factor]})
    )
    assert event == "done", untouched
    untouched = untouched["measures"]
    assert untouched["spread"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert untouched["kl"]["value"] == 0.0
    strong = {"dictionary": key, "feature": 999, "factor": -3.0}
    event, changed = last_event(client.post("/api/tune/measure", json={"recipe": saved, "factors": [strong]}))
    assert event == "done", changed
    changed = changed["measures"]
    assert changed["kl"]["value"] > 0
    assert changed["kl"]["low"] <= changed["kl"]["value"] <= changed["kl"]["high"]
    assert changed["spread"]["value"] != 1.0


def test_what_is_saved_is_what_was_set(client: TestClient, saved: str, key: str, demo_run: Path) -> None:
    factors = [
        {"dictionary": key, "feature": 10, "factor": 0.25},
        {"dictionary": key, "feature": GARDENS, "factor": 1},
    ]
    body = {"recipe": saved, "factors": factors, "name": "by hand"}
    event, data = last_event(client.post("/api/recipes/tuned", json=body))
    assert event == "done", data
    path = demo_run / "recipes" / "by hand.json"
    try:
        edits = [(edit.feature, edit.amount) for part in read_recipe(path).parts for edit in part.edits]
        assert edits == [(10, 0.25)]
        again = client.post("/api/recipes/tuned", json=body)
        assert again.status_code == 422
    finally:
        path.unlink()


@pytest.mark.parametrize("factor", [1e9, -11, "NaN", None, "one"])
def test_a_factor_that_cannot_be_is_refused(client: TestClient, saved: str, key: str, factor: Any) -> None:
    body = {"recipe": saved, "factors": [{"dictionary": key, "feature": 1, "factor": factor}]}
    assert client.post("/api/tune/measure", json=body).status_code == 422


def test_foreign_things_are_refused_with_words(client: TestClient, saved: str, key: str) -> None:
    def event(**factor: Any) -> tuple[str, Any]:
        one = {"dictionary": key, "feature": 1, "factor": 0.5, **factor}
        return last_event(client.post("/api/tune/measure", json={"recipe": saved, "factors": [one]}))

    assert event(feature=4608)[0] == "failed"
    assert event(dictionary="0" * 12)[0] == "failed"
    assert client.post("/api/tune/measure", json={"recipe": "../x", "factors": []}).status_code == 404
    assert client.post("/api/tune/measure", json={"recipe": saved, "factors": [{}] * 501}).status_code == 422
    assert client.get("/tune", params={"run": "demo"}).status_code == 404
