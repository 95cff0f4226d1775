"""Must show 3: every hook point equals a hook placed by hand on the raw Hugging Face module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from onesense.errors import ConfigurationError, HookPointError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import pad_batch
from tiny_models import tiny_hf

LAYER = 1
# family -> suffix -> (module path below the causal model, "in" or "out")
BY_HAND: dict[str, dict[str, tuple[str, str]]] = {
    "gpt2": {
        "hook_resid_pre": ("transformer.h.1", "in"),
        "hook_resid_mid": ("transformer.h.1.ln_2", "in"),
        "hook_resid_post": ("transformer.h.1", "out"),
        "hook_attn_out": ("transformer.h.1.attn", "out"),
        "hook_mlp_out": ("transformer.h.1.mlp", "out"),
        "mlp.hook_post": ("transformer.h.1.mlp.c_proj", "in"),
        "attn.hook_z": ("transformer.h.1.attn.c_proj", "in"),
    },
    "llama": {
        "hook_resid_pre": ("model.layers.1", "in"),
        "hook_resid_mid": ("model.layers.1.post_attention_layernorm", "in"),
        "hook_resid_post": ("model.layers.1", "out"),
        "hook_attn_out": ("model.layers.1.self_attn", "out"),
        "hook_mlp_out": ("model.layers.1.mlp", "out"),
        "mlp.hook_post": ("model.layers.1.mlp.down_proj", "in"),
        "attn.hook_z": ("model.layers.1.self_attn.o_proj", "in"),
    },
    "gpt_neox": {
        "hook_resid_pre": ("gpt_neox.layers.1", "in"),
        "hook_resid_post": ("gpt_neox.layers.1", "out"),
        "hook_attn_out": ("gpt_neox.layers.1.attention", "out"),
        "hook_mlp_out": ("gpt_neox.layers.1.mlp", "out"),
        "mlp.hook_post": ("gpt_neox.layers.1.mlp.dense_4h_to_h", "in"),
        "attn.hook_z": ("gpt_neox.layers.1.attention.dense", "in"),
    },
    "gemma2": {
        "hook_resid_pre": ("model.layers.1", "in"),
        "hook_resid_mid": ("model.layers.1.pre_feedforward_layernorm", "in"),
        "hook_resid_post": ("model.layers.1", "out"),
        # On a sandwich-norm family the block-level names mean what is added to the stream: after the norm.
        "hook_attn_out": ("model.layers.1.post_attention_layernorm", "out"),
        "hook_mlp_out": ("model.layers.1.post_feedforward_layernorm", "out"),
        "mlp.hook_post": ("model.layers.1.mlp.down_proj", "in"),
        "attn.hook_z": ("model.layers.1.self_attn.o_proj", "in"),
    },
}
ROWS = [[256, 1, 2, 3, 4, 5, 6], [256, 9, 8, 7, 100, 101, 102]]


def by_hand(hf: Any, path: str, side: str) -> Tensor:
    found: list[Tensor] = []
    module = hf.get_submodule(path)

    def first(value: Any) -> Tensor:
        return value[0] if isinstance(value, tuple) else value

    if side == "in":
        handle = module.register_forward_pre_hook(
            lambda _module, args, kwargs: found.append(first(args) if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
    else:
        handle = module.register_forward_hook(lambda _module, _args, output: found.append(first(output)))
    with torch.no_grad():
        hf(torch.tensor(ROWS))
    handle.remove()
    return found[0]


@pytest.mark.parametrize(
    ("family", "suffix"), [(family, suffix) for family, points in BY_HAND.items() for suffix in points]
)
def test_equals_a_hook_placed_by_hand(
    family: str, suffix: str, tiny_model: Callable[[str], LanguageModel]
) -> None:
    model = tiny_model(family)
    point = HookPoint(LAYER, suffix)
    captured = capture(model, pad_batch(model, ROWS), [point])[point]
    expected = by_hand(tiny_hf(family), *BY_HAND[family][suffix])
    assert captured.shape == (2, 7, model.resolve(point).width)
    torch.testing.assert_close(captured, expected, rtol=1e-5, atol=1e-5)
    assert captured.std() > 0


@pytest.mark.parametrize("family", list(BY_HAND))
def test_resid_post_of_a_layer_is_resid_pre_of_the_next_and_a_raw_hidden_state(
    family: str, tiny_model: Callable[[str], LanguageModel]
) -> None:
    model = tiny_model(family)
    post, pre = HookPoint(0, "hook_resid_post"), HookPoint(1, "hook_resid_pre")
    found = capture(model, pad_batch(model, ROWS), [post, pre])
    torch.testing.assert_close(found[post], found[pre])
    with torch.no_grad():
        states = model.hf(torch.tensor(ROWS), output_hidden_states=True).hidden_states
    torch.testing.assert_close(found[post], states[1])


def test_several_points_come_from_one_pass_that_stops_early(tiny_gpt2: LanguageModel) -> None:
    ran: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_args, index=index: ran.append(index))
        for index, block in enumerate(tiny_gpt2.hf.transformer.h)
    ]
    points = [HookPoint(0, "hook_resid_pre"), HookPoint(1, "hook_resid_pre"), HookPoint(0, "mlp.hook_post")]
    found = capture(tiny_gpt2, pad_batch(tiny_gpt2, ROWS), points)
    for handle in handles:
        handle.remove()
    assert list(found) == [points[0], points[2], points[1]] or set(found) == set(points)
    assert ran == [0]
    assert not tiny_gpt2.hf.transformer.h[1]._forward_pre_hooks


def test_hooks_are_removed_after_an_error(tiny_gpt2: LanguageModel) -> None:
    batch = pad_batch(tiny_gpt2, ROWS)
    object.__setattr__(batch, "ids", batch.ids + 10_000)
    before = dict(tiny_gpt2.hf.transformer.h[0]._forward_hooks)
    with pytest.raises(IndexError):
        capture(tiny_gpt2, batch, [HookPoint(0, "hook_resid_post")])
    assert dict(tiny_gpt2.hf.transformer.h[0]._forward_hooks) == before


@pytest.mark.parametrize("family", list(BY_HAND))
def test_padding_changes_nothing(family: str, tiny_model: Callable[[str], LanguageModel]) -> None:
    model = tiny_model(family)
    point = HookPoint(2, "hook_resid_post")
    short, long = [256, 5, 6, 7], [256, *range(20)]
    alone = capture(model, pad_batch(model, [short]), [point])[point][0]
    for side in ("left", "right"):
        batch = pad_batch(model, [long, short], side=side)
        row = capture(model, batch, [point])[point][1][batch.attention_mask[1] == 1]
        torch.testing.assert_close(row, alone, rtol=1e-4, atol=1e-5)


def test_layer_out_of_range_says_the_range(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(HookPointError, match="0 to 2"):
        capture(tiny_gpt2, pad_batch(tiny_gpt2, ROWS), [HookPoint(3, "hook_resid_pre")])


def test_a_place_that_the_family_lacks_is_refused(tiny_neox: LanguageModel) -> None:
    with pytest.raises(HookPointError, match="gpt_neox"):
        tiny_neox.resolve(HookPoint(1, "hook_resid_mid"))


def test_empty_rows_are_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="no token"):
        pad_batch(tiny_gpt2, [[1], []])
    with pytest.raises(ConfigurationError, match="outside the vocabulary"):
        pad_batch(tiny_gpt2, [[260]])
