"""A recipe as interp-engine's steering spec: its own classes read it, its own arithmetic does what the recipe does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interp_engine.server.schemas import GenerateRequest
from interp_engine.steer import steer
from interp_engine.steer_specs import steering_spec_to_worker_specs
from interp_engine.vllm_capture.steering import _make_steer_modifiers

from onesense.debias.export.copies import copy_of
from onesense.debias.export.steering_spec import (
    FILE_NAME,
    install_steering,
    read_steering,
    steering_specs,
    why_no_steering_spec,
    write_steering,
)
from onesense.errors import FormatError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.model.positions import PositionTracker
from onesense.steer.apply import applied
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup, Intervention
from onesense.steer.where import EVERYWHERE, Where
from small_recipes import dictionary_at, group_of

Make = Callable[[str], LanguageModel]


def edits_at(model: LanguageModel, point: str, values: Sequence[tuple[Operation, float]]) -> Intervention:
    """An edit of features 0, 1, ... by each operation and value."""
    edits = [
        Edit(feature=number, operation=operation, value=value, where=EVERYWHERE)
        for number, (operation, value) in enumerate(values)
    ]
    return Intervention(model, EditGroup(dictionary_at(point), edits))


MIXED = [
    (Operation.DIRECTION_ADD, 2.0),
    (Operation.PROJECT_OUT, 1.0),
    (Operation.DIRECTION_ADD, -3.0),
    (Operation.PROJECT_OUT, 1.0),
]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_interp_engine_steers_as_the_recipe_does(
    family: str, tiny_model: Make, tmp_path: Path, random_ids: torch.Tensor
) -> None:
    model = tiny_model(family)
    edits = [
        edits_at(
            model, "blocks.0.hook_resid_pre", [(Operation.PROJECT_OUT, 0.5), (Operation.PROJECT_OUT, 0.5)]
        ),
        edits_at(model, "blocks.1.hook_resid_post", MIXED),
        edits_at(model, "blocks.2.hook_mlp_out", [(Operation.DIRECTION_ADD, 1.5)]),
    ]
    path = tmp_path / FILE_NAME
    write_steering(steering_specs(model, edits), path)
    specs = read_steering(path, model.d_model)
    steered = copy_of(model)
    install_steering(steered, specs)
    with torch.no_grad():
        with applied(model, edits, warn=False):
            wanted = model.hf(random_ids).logits
        with steer(model._eager, specs):
            torch.testing.assert_close(model.hf(random_ids).logits, wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(steered.hf(random_ids).logits, wanted, atol=1e-5, rtol=1e-5)
        assert (model.hf(random_ids).logits - wanted).abs().max() > 0.05


@settings(max_examples=30)
@given(
    added=st.lists(st.floats(-20, 20, width=32), max_size=4),
    share=st.floats(-1, 2, width=32),
    projected=st.integers(0, 4),
    seed=st.integers(0, 9),
)
def test_the_worker_s_own_arithmetic_gives_the_recipe_s_state(
    tiny_llama: LanguageModel, added: list[float], share: float, projected: int, seed: int
) -> None:
    """What interp-engine's worker inside vLLM computes at a site, run here on tensors."""
    values = [(Operation.DIRECTION_ADD, value) for value in added]
    values += [(Operation.PROJECT_OUT, share)] * projected
    if not values:
        return
    one = edits_at(tiny_llama, "blocks.1.hook_resid_post", values)
    body = {"prompt_token_ids": [1], "steering": json.loads(json.dumps(steering_specs(tiny_llama, [one])))}
    specs = [wire.to_spec(32) for wire in GenerateRequest.model_validate(body).steering or ()]
    hidden = 3 * torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(seed))
    positions = PositionTracker(()).observe((), {"input_ids": torch.ones(1, 7, dtype=torch.long)})
    modify = _make_steer_modifiers(steering_spec_to_worker_specs(specs), torch.device("cpu"), torch.float32)
    torch.testing.assert_close(hidden + modify(hidden), one(hidden, positions), atol=1e-4, rtol=1e-5)


def test_directions_that_are_at_right_angles_may_have_shares_of_their_own(tiny_llama: LanguageModel) -> None:
    point = "blocks.1.hook_resid_post"
    shares = [(Operation.PROJECT_OUT, 1.0), (Operation.PROJECT_OUT, 0.5)]
    assert "different shares" in str(why_no_steering_spec(tiny_llama, [edits_at(tiny_llama, point, shares)]))
    dictionary = dictionary_at(point)
    dictionary.W_dec[:2] = torch.eye(32)[:2]
    edits = [Edit(feature=n, operation=o, value=v, where=EVERYWHERE) for n, (o, v) in enumerate(shares)]
    (spec,) = steering_specs(tiny_llama, [Intervention(tiny_llama, EditGroup(dictionary, edits))])
    first, second = spec["layers"]["1"]
    assert (first["method"], second["method"], second["coeff"]) == ("ablate", "orthogonal", 0.5)


def test_what_a_spec_cannot_say_is_refused(tiny_llama: LanguageModel) -> None:
    post = "blocks.1.hook_resid_post"
    for operation in (Operation.CLAMP, Operation.SCALE, Operation.CAP):
        latent = Intervention(tiny_llama, group_of(post, operation, 1.0))
        with pytest.raises(IncompatibleError, match="looks at the latent"):
            steering_specs(tiny_llama, [latent])
    partly = Intervention(tiny_llama, group_of(post, Operation.DIRECTION_ADD, 1.0, Where()))
    assert "special tokens included" in str(why_no_steering_spec(tiny_llama, [partly]))
    wide = group_of("blocks.1.mlp.hook_post", Operation.DIRECTION_ADD, 1.0)
    wide = EditGroup(dictionary_at("blocks.1.mlp.hook_post", width=48), wide.edits)
    assert "48 wide" in str(why_no_steering_spec(tiny_llama, [Intervention(tiny_llama, wide)]))
    assert why_no_steering_spec(tiny_llama, []) == "there is no edit"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"steering": [{"point": "resid_post"}]}',
        '{"steering": [{"layers": {"1": [{"method": "clamp", "vector": [1]}]}}]}',
        '{"steering": [{"layers": {"1": [{"method": "ablate", "vector": [1, 2]}]}}]}',
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(FormatError, match="no steering specs"):
        read_steering(tmp_path / FILE_NAME, 32)
