"""Constant directions as bodies of uploads to Neuronpedia."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from onesense.debias.export.copies import copy_of
from onesense.debias.export.neuronpedia_vector import (
    install_vectors,
    neuronpedia_vectors,
    read_vectors,
    why_no_vector,
    write_vectors,
)
from onesense.errors import ConfigurationError, FormatError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.model.names import short_name
from onesense.steer.apply import applied
from onesense.steer.edit import Operation
from onesense.steer.intervention import Intervention
from onesense.steer.where import EVERYWHERE, Where
from small_recipes import dictionary_at, group_of


def added(model: LanguageModel, point: str, value: float = 1.5, where: Where = EVERYWHERE) -> Intervention:
    return Intervention(model, group_of(point, Operation.DIRECTION_ADD, value, where))


def test_a_body_for_each_layer(tiny_llama: LanguageModel, tmp_path: Path, random_ids: torch.Tensor) -> None:
    points = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre")
    edits = [added(tiny_llama, point) for point in points]
    write_vectors(
        neuronpedia_vectors(tiny_llama, edits, model_id="gpt2-small", label="pro\u2028nouns"), tmp_path
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "neuronpedia-vector-001.json", "neuronpedia-vector-002.json",
    ]  # fmt: skip
    body = json.loads((tmp_path / "neuronpedia-vector-001.json").read_text())
    assert {key: body[key] for key in body if key != "vector"} == {
        "modelId": "gpt2-small",
        "layerNumber": 1,
        "hookType": "hook_resid_pre",
        "vectorDefaultSteerStrength": pytest.approx(2 * added_norm()),
        "vectorLabel": "pro\u2028nouns",
    }
    assert torch.tensor(body["vector"]).norm() == pytest.approx(1)
    steered = copy_of(tiny_llama)
    install_vectors(steered, read_vectors(tmp_path))
    with torch.no_grad():
        with applied(tiny_llama, edits, warn=False):
            wanted = tiny_llama.hf(random_ids).logits
        torch.testing.assert_close(steered.hf(random_ids).logits, wanted, atol=1e-5, rtol=1e-5)


def added_norm() -> float:
    rows = dictionary_at("blocks.1.hook_resid_pre").W_dec[[3, 7]]
    return float((1.5 * rows.sum(0)).norm())


def test_a_strength_stays_within_what_neuronpedia_takes(tiny_llama: LanguageModel) -> None:
    (body,) = neuronpedia_vectors(
        tiny_llama, [added(tiny_llama, "blocks.1.hook_resid_pre", -4000.0)], model_id=None, label="x" * 999
    )
    assert body["vectorDefaultSteerStrength"] == 300
    assert 300 * torch.tensor(body["vector"]).norm() == pytest.approx(added_norm() / 1.5 * 4000, rel=1e-5)
    assert body["modelId"] == "tiny-llama"
    assert len(body["vectorLabel"]) == 200


def test_what_neuronpedia_cannot_do_is_refused(tiny_llama: LanguageModel) -> None:
    for point, reason in (
        ("blocks.2.hook_resid_post", "after the last block"),
        ("blocks.1.hook_resid_mid", "neither before nor after"),
    ):
        with pytest.raises(IncompatibleError, match=reason):
            neuronpedia_vectors(tiny_llama, [added(tiny_llama, point)], model_id=None, label="x")
    clamped = Intervention(tiny_llama, group_of("blocks.1.hook_resid_pre", Operation.CLAMP, 1.0))
    assert "constant" in str(why_no_vector(tiny_llama, [clamped]))
    partly = added(tiny_llama, "blocks.1.hook_resid_pre", where=Where())
    assert "everywhere" in str(why_no_vector(tiny_llama, [partly]))
    assert "zero" in str(why_no_vector(tiny_llama, [added(tiny_llama, "blocks.1.hook_resid_pre", 0.0)]))
    assert why_no_vector(tiny_llama, []) == "there is no edit"
    edits = [added(tiny_llama, "blocks.1.hook_resid_pre")]
    with pytest.raises(ConfigurationError, match="no id of Neuronpedia"):
        neuronpedia_vectors(tiny_llama, edits, model_id="../x", label="x")


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"vector": ["a"], "vectorDefaultSteerStrength": 1, "layerNumber": 1}']
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(FormatError, match="no vector for Neuronpedia"):
        read_vectors(tmp_path)
    (tmp_path / "neuronpedia-vector-001.json").write_text(text)
    with pytest.raises(FormatError, match="no vector for Neuronpedia"):
        read_vectors(tmp_path)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("gpt2", "gpt2-small"),
        ("openai-community/gpt2", "gpt2-small"),
        ("google/gemma-2-2b-it", "gemma-2-2b-it"),
        ("HuggingFaceTB/SmolLM2-135M", "smollm2-135m"),
        ("demo", "demo"),
    ],
)
def test_short_names(name: str, short: str) -> None:
    assert short_name(name) == short
