"""Steering without a browser: what is made, refused, kept, and copied."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from browser import ADDRESS, GARDENS
from onesense.web.app import create_app
from onesense.web.edits import MOST_EDITS
from onesense.web.workspace import Workspace

PROMPT = "We spent the whole day in the"
_HEADERS = {"x-onesense": "1"}
_ONESENSE = [sys.executable, "-c", "from onesense.cli.main import main; main()"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the recipes of these tests are kept."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def own(demo_run: Path, store: Path) -> Iterator[TestClient]:
    """Asks one application for all of these tests: loading the model takes a while."""
    app = create_app(Workspace([demo_run], store), warm=False)
    with TestClient(app, base_url=ADDRESS, headers=_HEADERS) as made:
        yield made


@pytest.fixture(scope="module")
def key(own: TestClient) -> str:
    """The demo's dictionary in addresses."""
    return str(own.get("/steer.json").json()["dictionaries"][0]["key"])


def _edit(key: str, feature: int = GARDENS, **others: Any) -> dict[str, Any]:
    return {"dictionary": key, "feature": feature, "value": 0.6, "unit": "norm", **others}


def _body(*edits: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"edits": list(edits), "prompt": PROMPT, "samples": 1, "max_new_tokens": 6, **others}


def _events(text: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        for block in text.split("\n\n")
    ]
    return [(block["event"], json.loads(block["data"])) for block in blocks if "event" in block]


def _last(client: TestClient, address: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    answer = client.post(address, json=body)
    assert answer.status_code == 200, answer.text
    return _events(answer.text)[-1]


def _made(client: TestClient, address: str, body: dict[str, Any]) -> dict[str, Any]:
    name, data = _last(client, address, body)
    assert name == "done", data
    return data


def test_texts_come_piece_by_piece_with_the_dose_at_the_end(own: TestClient, key: str) -> None:
    answer = own.post("/api/steer", json=_body(_edit(key), samples=2))
    events = _events(answer.text)
    name, made = events[-1]
    assert name == "done"
    assert [sample["text"] for sample in made["steered"]] != [sample["text"] for sample in made["unsteered"]]
    for side in (True, False):
        for sample in made["steered" if side else "unsteered"]:
            pieces = [
                data["text"]
                for event, data in events
                if event == "piece" and data["steered"] is side and data["sample"] == sample["number"]
            ]
            assert "".join(pieces) == sample["text"]
    assert made["doses"][0]["relative"] == pytest.approx(0.6, rel=0.01)


def test_without_edits_nothing_is_steered(own: TestClient) -> None:
    made = _made(own, "/api/steer", _body())
    assert made["steered"] == made["unsteered"]
    assert made["doses"] == []


def test_a_strong_dose_is_warned_of_and_two_edits_of_a_feature_act_in_turn(own: TestClient, key: str) -> None:
    made = _made(own, "/api/steer", _body(_edit(key, value=3), _edit(key, operation="floor", value=0.1)))
    assert any("above 1" in line for line in made["warnings"])


def test_a_sweep_is_told_step_by_step(own: TestClient, key: str) -> None:
    events = _events(own.post("/api/sweep", json=_body(_edit(key, value=1), coefficients=[0, 1])).text)
    name, made = events[-1]
    assert name == "done"
    assert made["steps"][0]["samples"] == made["unsteered"]
    assert {data["step"] for event, data in events if event == "piece" and data["steered"]} == {0, 1}


@pytest.mark.parametrize(
    "others",
    [
        {"prompt": ""},
        {"prompt": "a" * 8001},
        {"prompt": "\ud800"},
        {"samples": 5},
        {"samples": 0},
        {"max_new_tokens": 100_000},
        {"seed": -1},
        {"sampling": {"temperature": 0}},
        {"sampling": {"top_p": float("nan")}},
        {"sampling": {"unknown": 1}},
        {"device": "cpu"},
    ],
)
def test_what_cannot_be_made_is_refused_at_once(own: TestClient, others: dict[str, Any]) -> None:
    answer = own.post(
        "/api/steer", content=json.dumps(_body(**others)), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "others",
    [
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": 1e10},
        {"feature": -1},
        {"feature": 1.5},
        {"feature": 10**30},
        {"dictionary": "../../etc"},
        {"operation": "explode"},
        {"unit": "pounds"},
        {"window": "nowhere"},
        {"first": 0},
        {"path": "/etc/passwd"},
    ],
)
def test_edits_that_cannot_be_are_refused_at_once(own: TestClient, key: str, others: dict[str, Any]) -> None:
    body = json.dumps(_body({**_edit(key), **others}))
    answer = own.post("/api/steer", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


def test_too_many_edits_and_unknown_dictionaries_are_refused(own: TestClient, key: str) -> None:
    many = [_edit(key, feature) for feature in range(MOST_EDITS + 1)]
    assert own.post("/api/steer", json=_body(*many)).status_code == 422
    assert own.post("/api/steer", json=_body(_edit("0" * 12))).status_code == 404


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"prompt": " \n "}, "The prompt is empty"),
        ({"prompt": "\u1234" * 8000}, "context"),
        ({"edits": [{"feature": 10**9}]}, "There is no feature"),
        ({"edits": [{"operation": "direction_add", "value": None}]}, "needs one"),
        ({"edits": [{"operation": "ablate", "window": "generation", "last": 2}]}, "prompt's end"),
    ],
)
def test_refusals_of_the_model_come_through(
    own: TestClient, key: str, body: dict[str, Any], told: str
) -> None:
    edits = [{**_edit(key), **one} for one in body.get("edits", [])]
    name, data = _last(own, "/api/steer", {**_body(), **body, "edits": edits})
    assert name == "failed"
    assert told in data["message"]


def test_amounts_beyond_all_measure_are_told_and_the_next_text_is_whole(own: TestClient, key: str) -> None:
    before = _made(own, "/api/steer", _body())["unsteered"]
    made = _made(own, "/api/steer", _body(_edit(key, value=1e9, unit="raw")))
    assert any("above 1" in line for line in made["warnings"])
    name, data = _last(own, "/api/sweep", _body(_edit(key), coefficients=[1e300]))
    assert name == "failed"
    assert "NaN" in data["message"]
    assert _made(own, "/api/steer", _body())["unsteered"] == before


def test_edits_of_two_models_are_refused_with_words(own: TestClient, key: str, store: Path) -> None:
    part = {
        "hook_point": "blocks.0.hook_resid_post",
        "dictionary": {"release": "r", "sae_id": "s", "fingerprint": "f" * 64},
    }
    recipe = {"model": {"name": "another", "fingerprint": "e" * 64}, "parts": [part]}
    (store / "recipes").mkdir(exist_ok=True)
    other = store / "recipes" / "other.json"
    other.write_text(json.dumps(recipe))
    answer = own.post("/api/steer", json=_body(_edit(key), _edit("f" * 12)))
    other.unlink()
    assert answer.status_code == 422
    assert "another, demo" in answer.json()["error"]


def test_what_is_known_of_a_feature(own: TestClient, key: str) -> None:
    found = own.get("/api/edits/describe", params={"dictionary": key, "feature": GARDENS}).json()
    assert found["label"] == "places to sit: gardens and parks"
    assert found["row_norm"] > 0
    assert found["max_activation"] > 0
    assert found["run"] == "demo"
    for wrong, status in ((10**9, 404), (-1, 422), ("x", 422), (10**30, 422)):
        asked = own.get("/api/edits/describe", params={"dictionary": key, "feature": wrong})
        assert asked.status_code == status


def test_features_are_found_by_word_and_number(own: TestClient, key: str) -> None:
    def found(words: str) -> list[int]:
        answer = own.get("/api/features/search", params={"dictionary": key, "q": words})
        assert answer.status_code == 200
        return [one["feature"] for one in answer.json()["features"]]

    assert GARDENS in found("gardens")
    assert found(str(GARDENS)) == [GARDENS]
    assert found('"') == found("9" * 30) == []
    assert GARDENS in found('gardens) OR NEAR("')  # text, no syntax


@pytest.mark.parametrize(
    "address", ["x", "{key}/abc", "{key}/1:scale:nan", "{key}/" + "9" * 100 + ":ablate", "..%2f/1:ablate"]
)  # fmt: skip
def test_an_address_with_an_edit_that_cannot_be_is_refused(own: TestClient, key: str, address: str) -> None:
    assert 400 <= own.get(f"/steer.json?edit={address.format(key=key)}").status_code < 500


def test_an_address_offers_its_edits_and_its_text_stays_text(own: TestClient, key: str) -> None:
    query = {
        "edit": f"{key}/{GARDENS}:clamp:2:max:generation",
        "prompt": "<script>alert(1)</script>",
        "seed": 7,
    }
    offered = own.get("/steer.json", params=query).json()["offered"]
    assert [
        (one["feature"], one["operation"], one["value"], one["unit"], one["window"]) for one in offered
    ] == [(GARDENS, "clamp", 2.0, "max", "generation")]
    assert "<script>alert" not in own.get("/steer", params=query).text


def test_a_recipe_is_saved_once_loaded_and_downloaded(own: TestClient, key: str, store: Path) -> None:
    edits = [
        _edit(key, window="prompt", first=3, special=True),
        _edit(key, 10, operation="ablate", value=None),
    ]
    saved = _made(own, "/api/recipes", {"name": "less gardens", "edits": edits})
    assert (store / "recipes" / "less gardens.json").exists()
    again = own.post("/api/recipes", json={"name": "Less Gardens", "edits": edits})
    assert again.status_code == 422
    assert "already" in again.json()["error"]
    loaded = own.get("/steer.json", params={"recipe": saved["id"]}).json()["offered"]
    assert [(one["feature"], one["window"], one["first"], one["special"]) for one in loaded] == [
        (GARDENS, "prompt", 3, True),
        (10, "all", None, False),
    ]
    downloaded = own.get(f"/api/recipes/{saved['id']}")
    assert downloaded.headers["content-disposition"] == f'attachment; filename="{saved["id"]}.json"'
    assert downloaded.json() == json.loads((store / "recipes" / "less gardens.json").read_text())


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a/b", "a\\b", "a\0b", "x" * 61, "<b>"])
def test_names_that_no_file_can_have_are_refused(own: TestClient, key: str, store: Path, name: str) -> None:
    before = sorted(store.parent.rglob("*.json"))
    assert own.post("/api/recipes", json={"name": name, "edits": [_edit(key)]}).status_code == 422
    assert sorted(store.parent.rglob("*.json")) == before


def test_a_recipe_that_the_page_cannot_show_is_refused(own: TestClient, key: str, store: Path) -> None:
    saved = _made(own, "/api/recipes", {"name": "places", "edits": [_edit(key)]})
    path = store / "recipes" / "places.json"
    recipe = json.loads(path.read_text())
    del recipe["content_hash"]
    recipe["parts"][0]["edits"][0]["where"]["positions"] = [[0, 2]]
    path.write_text(json.dumps(recipe))
    answer = own.get("/steer.json", params={"recipe": saved["id"]})
    assert answer.status_code == 422
    assert "cannot show" in answer.json()["error"]
    assert own.get("/steer.json", params={"recipe": "../../etc/passwd"}).status_code == 404


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_copied_command_and_python_give_the_text_of_the_page(
    own: TestClient, key: str, tmp_path: Path
) -> None:
    edits = [
        _edit(key, value=0.35),
        _edit(key, 10, operation="clamp", value=0.7, unit="max", window="generation"),
    ]
    sampling = {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.1}
    body = _body(*edits, prompt='It\'s "we" who\nspent $HOME in the', samples=2, seed=5, sampling=sampling)
    made = _made(own, "/api/steer", body)
    assert made["steered"] != made["unsteered"]
    copied = _made(own, "/api/steer/code", body)
    command = shlex.split(copied["command"])
    assert command[:2] == ["onesense", "steer"]
    by_command = json.loads(_run([*_ONESENSE, *command[1:], "--json"], tmp_path))
    assert (by_command["steered"], by_command["unsteered"]) == (made["steered"], made["unsteered"])
    script = copied["python"] + "import json\nprint(json.dumps(made.to_json()))\n"
    by_script = json.loads(_run([sys.executable, "-c", script], tmp_path).splitlines()[-1])
    assert (by_script["steered"], by_script["unsteered"]) == (made["steered"], made["unsteered"])


def test_edits_that_flags_cannot_say_are_copied_with_a_recipe(
    own: TestClient, key: str, store: Path, tmp_path: Path
) -> None:
    body = _body(_edit(key, first=2, special=True), sampling={"do_sample": False}, coefficients=[0.5, 1])
    made = _made(own, "/api/sweep", body)
    copied = _made(own, "/api/steer/code", body)
    assert _made(own, "/api/steer/code", body)["recipe"] == copied["recipe"]
    kept = [path.stem for path in (store / "recipes").iterdir() if path.stem.startswith("steered")]
    assert kept == [copied["recipe"]["title"]]
    command = shlex.split(copied["command"])
    by_command = json.loads(_run([*_ONESENSE, *command[1:], "--json"], tmp_path))
    assert [step["samples"] for step in by_command["steps"]] == [step["samples"] for step in made["steps"]]


def test_a_browser_that_goes_away_ends_its_text_and_leaves_the_model_whole(server: str) -> None:
    with httpx.Client(base_url=server, headers=_HEADERS, timeout=120) as client:
        key = client.get("/steer.json").json()["dictionaries"][0]["key"]
        fresh = _events(client.post("/api/steer", json=_body()).text)[-1][1]["unsteered"]
        long = _body(_edit(key, value=0.9), max_new_tokens=256, samples=4)
        with client.stream("POST", "/api/steer", json=long) as answer:
            for line in answer.iter_lines():
                if line == "event: piece":
                    break
        after = _events(client.post("/api/steer", json=_body()).text)[-1][1]["unsteered"]
        assert after == fresh
        states = [job["state"] for job in client.get("/work.json").json()["jobs"] if job["kind"] == "steer"]
        assert states[:2] == ["done", "cancelled"]


def test_a_hundred_at_once_wait_in_line_or_are_sent_away(server: str) -> None:
    body = _body(max_new_tokens=1)

    def ask(_: int) -> tuple[int, list[tuple[str, dict[str, Any]]]]:
        with httpx.Client(base_url=server, headers=_HEADERS, timeout=300) as client:
            answer = client.post("/api/steer", json=body)
            return answer.status_code, _events(answer.text)

    with ThreadPoolExecutor(100) as threads:
        answers = list(threads.map(ask, range(100)))
    assert {status for status, _ in answers} == {200, 429}
    served = [events for status, events in answers if status == 200]
    assert all(events[-1][0] == "done" for events in served)
    assert any(events[0] == ("place", events[0][1]) and events[0][1]["place"] > 5 for events in served)
