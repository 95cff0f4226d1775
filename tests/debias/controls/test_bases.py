"""Neurons, coordinates and random directions as features of a real model's activations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from onesense.debias.controls.bases import coordinates_of, neuron_basis, random_directions, residual_basis
from onesense.debias.controls.signed_pairs import both_signs, scaled
from onesense.errors import ConfigurationError, HookPointError, IncompatibleError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import pad_batch
from onesense.steer.apply import applied
from tiny_models import VOCABULARY, randomised

IDS = [256, 72, 101, 32, 115, 97, 105, 100]
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def _further(family: str, tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    hf = {
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, intermediate_size=48, num_key_value_heads=2)),
        "opt": lambda: OPTForCausalLM(OPTConfig(**SHAPE, ffn_dim=48, word_embed_proj_dim=32)),
        "bloom": lambda: BloomForCausalLM(
            BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4)
        ),
        "mixtral": lambda: MixtralForCausalLM(
            MixtralConfig(**SHAPE, intermediate_size=48, num_key_value_heads=2, num_local_experts=2)
        ),
    }[family]()
    return LanguageModel.from_hf(randomised(hf, 0), tokenizer, f"tiny-{family}")


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_a_neuron_scaled_is_that_neuron_scaled(
    family: str, tiny_model: Callable[[str], LanguageModel]
) -> None:
    model = tiny_model(family)
    point = HookPoint(1, "mlp.hook_post")
    before = capture(model, pad_batch(model, [IDS]), [point])[point]
    assert (before < 0).any()
    assert (before > 0).any()
    basis = neuron_basis(model, 1)
    assert basis.d_sae == 2 * model.d_mlp
    edits = scaled(basis, both_signs([3, 17]), 0.25)
    with torch.no_grad(), applied(model, [edits], warn=False):
        after = capture(model, pad_batch(model, [IDS]), [point])[point]
    expected = before.clone()
    expected[:, 1:, [3, 17]] *= 0.25  # the BOS is left alone
    torch.testing.assert_close(after, expected)


def test_a_neuron_keeps_its_mean_where_one_is_given(tiny_gpt2: LanguageModel) -> None:
    point = HookPoint(0, "mlp.hook_post")
    before = capture(tiny_gpt2, pad_batch(tiny_gpt2, [IDS]), [point])[point]
    mean = before[0, 1:].mean(0)
    edits = scaled(neuron_basis(tiny_gpt2, 0, mean=mean), both_signs(range(tiny_gpt2.d_mlp)), 0.0)
    with torch.no_grad(), applied(tiny_gpt2, [edits], warn=False):
        after = capture(tiny_gpt2, pad_batch(tiny_gpt2, [IDS]), [point])[point]
    torch.testing.assert_close(after[0, 1:], mean.expand_as(after[0, 1:]), atol=1e-5, rtol=1e-4)
    assert torch.equal(after[0, 0], before[0, 0])


@pytest.mark.parametrize("family", ["qwen2"])
def test_further_families_have_neurons(family: str, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    model = _further(family, byte_tokenizer)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        plain = model.hf(ids).logits
        with applied(
            model, [scaled(neuron_basis(model, 1), both_signs(range(9)), 0.0)], warn=False
        ) as report:
            edited = model.hf(ids).logits
    assert report.positions == len(IDS) - 1
    assert not torch.allclose(plain, edited)


@pytest.mark.parametrize("family", ["mixtral", "bloom", "opt"])
def test_a_family_without_the_hook_is_refused_with_the_reason(
    family: str, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = _further(family, byte_tokenizer)
    with pytest.raises(HookPointError, match=f"a {family} model") as caught:
        neuron_basis(model, 1)
    assert caught.value.hint


def test_a_block_out_of_range_is_refused(tiny_llama: LanguageModel) -> None:
    with pytest.raises(HookPointError, match="3 layers"):
        neuron_basis(tiny_llama, 3)


def test_a_mean_of_another_width_is_refused(tiny_llama: LanguageModel) -> None:
    with pytest.raises(IncompatibleError, match="mean"):
        neuron_basis(tiny_llama, 0, mean=torch.zeros(32))


def test_the_residual_basis_is_the_coordinates(tiny_llama: LanguageModel) -> None:
    basis = residual_basis(tiny_llama, HookPoint(1, "hook_resid_pre"))
    hidden = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    latents = basis.encode(hidden)
    assert torch.equal(latents[:, 0::2], hidden.clamp(min=0))
    assert torch.equal(latents[:, 1::2], (-hidden).clamp(min=0))


def test_the_residual_basis_is_of_the_residual_stream(tiny_llama: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="residual stream"):
        residual_basis(tiny_llama, HookPoint(1, "mlp.hook_post"))


def test_random_directions_are_orthonormal_and_seeded(tiny_llama: LanguageModel) -> None:
    point = HookPoint(1, "hook_resid_post")
    basis = random_directions(tiny_llama, point, 20, seed=4)
    rows = basis.W_dec[0::2]
    torch.testing.assert_close(rows @ rows.T, torch.eye(20), atol=1e-6, rtol=0)
    assert torch.equal(basis.W_dec[1::2], -rows)
    again, other = (random_directions(tiny_llama, point, 20, seed=seed) for seed in (4, 5))
    assert again.origin.fingerprint == basis.origin.fingerprint != other.origin.fingerprint


@pytest.mark.parametrize("n", [0, 33])
def test_more_directions_than_dimensions_are_refused(tiny_llama: LanguageModel, n: int) -> None:
    with pytest.raises(ConfigurationError, match="32 dimensions"):
        random_directions(tiny_llama, HookPoint(1, "hook_resid_post"), n, seed=0)


def test_coordinates_of_features() -> None:
    assert coordinates_of([7, 6, 2, 1]) == [3, 1, 0]
