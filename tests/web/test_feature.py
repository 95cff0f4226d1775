"""The page of a feature, its twin, what it asks for, and activations on a text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from browser import GARDENS, last_event
from onesense.features.contexts import Contexts
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text, pad_batch
from onesense.sae.load import load_dictionary

PAGE = f"/runs/demo/features/{GARDENS}"


def test_the_page_and_its_twin_hold_what_the_run_knows(client: TestClient, demo_run: Any) -> None:
    data, page = client.get(f"{PAGE}.json").json(), client.get(PAGE).text
    contexts = Contexts.open(demo_run / "demo")
    assert data["firing"]["firings"] == int(contexts.count[GARDENS])
    assert sum(data["firing"]["histogram"]["counts"]) == int(contexts.count[GARDENS])
    found = [one["activations"][one["peak"]] for one in data["firing"]["top"]]
    assert found == pytest.approx([one.activation for one in contexts.top(GARDENS)], abs=1e-3)
    logits = [one["logit"] for one in data["promoted"]]
    assert logits == sorted(logits, reverse=True)
    assert "places to sit: gardens and parks" in page
    assert "0.81" in page


def test_why_there_is_no_explanation_is_said_as_such(client: TestClient) -> None:
    page = client.get("/runs/demo/features/11").text
    assert "refused" in page
    assert "would not say" in page


def test_a_dead_feature_says_so(client: TestClient, demo_run: Any) -> None:
    count = Contexts.open(demo_run / "demo").count
    dead = int(np.flatnonzero(count == 0)[0])
    assert "never fired" in client.get(f"/runs/demo/features/{dead}").text


def test_nearest_features_are_nearest_by_cosine(client: TestClient) -> None:
    rows = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post").W_dec.float()
    unit = rows / rows.norm(dim=1, keepdim=True)
    cosines = unit @ unit[GARDENS]
    cosines[GARDENS] = -2
    found = client.get(f"{PAGE}/nearest.json").json()["nearest"]
    assert [one["feature"] for one in found] == cosines.topk(len(found)).indices.tolist()
    assert math.isclose(found[0]["cosine"], float(cosines.max()), abs_tol=1e-4)


def test_logits_are_those_of_the_vocabulary(client: TestClient, demo_model: LanguageModel) -> None:
    found = client.get(f"{PAGE}/logits.json").json()
    assert sum(found["counts"]) == demo_model.vocab_size
    assert len(found["edges"]) == len(found["counts"]) + 1


def test_activations_on_a_text_are_the_dictionary_s_own(
    client: TestClient, demo_model: LanguageModel
) -> None:
    text = "We walked <|im_end|> in the garden."
    answer = client.post("/api/activations", json={"run": "demo", "features": [GARDENS, 10], "text": text})
    name, data = last_event(answer)
    assert name == "done", data
    ids, point = encode_text(demo_model, text), HookPoint.parse("blocks.15.hook_resid_post")
    stream = capture(demo_model, pad_batch(demo_model, [ids]), [point])[point][0]
    wanted = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post").encode(stream)[
        :, [GARDENS, 10]
    ]
    found = torch.tensor([one["activations"] for one in data["features"]]).T
    assert torch.allclose(found, wanted.float(), atol=1e-2, rtol=1e-3)
    assert len(data["tokens"]) == len(ids)
    assert not any(data["special"][1:]), "text that spells a special token is text"


@pytest.fixture
def quiet(client: TestClient) -> Iterator[TestClient]:
    yield client
    assert client.get("/work.json").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"run": "demo", "features": [], "text": "x"},
        {"run": "demo", "features": [1], "text": ""},
        {"run": "demo", "features": [-1], "text": "x"},
        {"run": "demo", "features": list(range(17)), "text": "x"},
        {"run": "demo", "features": [1], "text": "x" * 4001},
        {"run": "../demo", "features": [1], "text": "x"},
        {"run": "demo", "features": [1], "text": "x", "path": "/etc/passwd"},
        {"run": "demo", "features": ["one"], "text": "x"},
        [],
        None,
    ],
)
def test_what_cannot_be_asked_is_refused(quiet: TestClient, body: Any) -> None:
    answer = quiet.post("/api/activations", json=body)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]


def test_a_feature_beyond_the_dictionary_fails_with_words(client: TestClient) -> None:
    answer = client.post("/api/activations", json={"run": "demo", "features": [4608], "text": "x"})
    name, data = last_event(answer)
    assert name == "failed"
    assert "4607" in data["hint"]
