from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.model.unembedding import unembedding
from tiny_models import VOCABULARY, make_byte_tokenizer, tiny_hf

FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2")
LAYER_NORM_FAMILIES = ("gpt2", "gpt_neox")


def transformer_lens_w_u(hf: Any, family: str, n_tokens: int) -> Tensor:
    """W_U of a HookedTransformer with its final norm folded in and its unembedding centred."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained import weight_conversions

    layer_norm = family in LAYER_NORM_FAMILIES
    config = HookedTransformerConfig(
        n_layers=3,
        d_model=32,
        d_head=8,
        n_heads=4,
        d_mlp=128 if family == "gpt2" else 48,
        n_ctx=128,
        d_vocab=n_tokens,
        act_fn="gelu_new" if layer_norm else "silu",
        normalization_type="LN" if layer_norm else "RMS",
        positional_embedding_type="standard" if family == "gpt2" else "rotary",
        rotary_dim=None if family == "gpt2" else 8,
        n_key_value_heads=None if layer_norm else 2,
        gated_mlp=not layer_norm,
        final_rms=not layer_norm,
        use_normalization_before_and_after=family == "gemma2",
        device="cpu",
    )
    names = {"gpt2": "gpt2", "llama": "llama", "gpt_neox": "neox", "gemma2": "gemma"}
    state = getattr(weight_conversions, f"convert_{names[family]}_weights")(hf, config)
    state = {name: tensor.detach().clone() for name, tensor in state.items()}
    state["embed.W_E"] = state["embed.W_E"][:n_tokens]
    state["unembed.W_U"] = state["unembed.W_U"][:, :n_tokens]
    state["unembed.b_U"] = state.get("unembed.b_U", torch.zeros(n_tokens))[:n_tokens]
    model = HookedTransformer(config)
    model.load_and_process_state_dict(
        state, fold_ln=True, center_unembed=True, center_writing_weights=False, fold_value_biases=True
    )
    return model.W_U.detach()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("padded", [False, True])
def test_folded_equals_transformer_lens(family: str, padded: bool) -> None:
    hf = tiny_hf(family, seed=1)
    model = LanguageModel.from_hf(hf, make_byte_tokenizer() if padded else None, f"tiny-{family}")
    assert model.vocab_size == (VOCABULARY - 2 if padded else VOCABULARY)
    decoder = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))

    ours = decoder @ unembedding(model)
    theirs = decoder @ transformer_lens_w_u(hf, family, model.vocab_size)

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_folded_logits_differ_from_the_models_own_by_one_number_per_position(
    tiny_model: Callable[[str], LanguageModel], family: str
) -> None:
    """The lens of the normed residual is the model's logits: nothing that a softmax sees is lost."""
    model = tiny_model(family)
    trunk = model.hf.base_model
    norm = next(getattr(trunk, name) for name in ("ln_f", "norm", "final_layer_norm") if hasattr(trunk, name))
    residual = torch.randn(5, model.d_model, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        bias = norm(torch.zeros(1, model.d_model))
        logits = model.hf.get_output_embeddings()(norm(residual) - bias)[:, : model.vocab_size]
    centred = residual - residual.mean(-1, keepdim=True) if family in LAYER_NORM_FAMILIES else residual
    normed = centred / centred.square().mean(-1, keepdim=True).sqrt()

    difference = normed @ unembedding(model) - logits
    spread = difference - difference.mean(-1, keepdim=True)
    assert spread.abs().max() < 1e-3
    assert logits.std() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_folded_is_centred_over_the_vocabulary_that_the_tokenizer_knows(
    tiny_model: Callable[[str], LanguageModel], family: str
) -> None:
    model = tiny_model(family)
    matrix = unembedding(model)
    assert matrix.shape == (model.d_model, VOCABULARY - 2)
    assert matrix.is_contiguous()
    assert matrix.mean(1).abs().max() < 1e-6
    assert (matrix.mean(0).abs().max() < 1e-6) == (family in LAYER_NORM_FAMILIES)


def test_padding_rows_do_not_reach_the_result() -> None:
    hf = tiny_hf("gpt_neox")
    model = LanguageModel.from_hf(hf, make_byte_tokenizer(), "padded")
    before = unembedding(model), unembedding(model, convention="raw")
    with torch.no_grad():
        hf.get_output_embeddings().weight[VOCABULARY - 2 :] = 1e6
    assert torch.equal(before[0], unembedding(model))
    assert torch.equal(before[1], unembedding(model, convention="raw"))


def test_raw_is_the_stored_weight_and_a_copy(tiny_gpt2: LanguageModel) -> None:
    stored = tiny_gpt2.hf.get_output_embeddings().weight
    kept = stored.clone()
    raw = unembedding(tiny_gpt2, convention="raw")
    assert torch.equal(raw, stored[: tiny_gpt2.vocab_size].T)
    assert not torch.allclose(raw, unembedding(tiny_gpt2))
    raw.zero_()
    assert torch.equal(stored, kept)


def test_half_precision_weights_give_float32(tiny_gemma2: LanguageModel) -> None:
    half = LanguageModel.from_hf(tiny_hf("gemma2").to(torch.bfloat16), make_byte_tokenizer(), "half")
    matrix = unembedding(half)
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(matrix, unembedding(tiny_gemma2), rtol=0.05, atol=0.02)


def test_unknown_convention_is_refused(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="no lens convention `cosine`"):
        unembedding(tiny_gpt2, convention="cosine")  # type: ignore[arg-type]


class _SumNorm(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden / hidden.abs().sum(-1, keepdim=True).clamp(min=1e-6) ** 0.5


def test_a_norm_that_is_no_norm_is_refused_for_folded_only() -> None:
    hf = tiny_hf("llama")
    hf.model.norm = _SumNorm()
    model = LanguageModel.from_hf(hf, None, "odd")
    with pytest.raises(IncompatibleError, match="neither as RMSNorm nor as LayerNorm") as caught:
        unembedding(model)
    assert "--lens raw" in str(caught.value)
    assert unembedding(model, convention="raw").shape == (32, VOCABULARY)


@pytest.mark.parametrize("normed", [True, False])
def test_a_trunk_without_a_final_norm_is_refused(normed: bool) -> None:
    """OPT-350m has no norm after its last block, and a norm of the very name inside each block."""
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=99,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        do_layer_norm_before=normed,
    )
    model = LanguageModel.from_hf(OPTForCausalLM(config), None, "opt")
    if normed:
        assert unembedding(model).shape == (32, 99)
    else:
        with pytest.raises(IncompatibleError, match="only norms inside its blocks"):
            unembedding(model)


def test_a_projection_before_the_unembedding_is_refused() -> None:
    hf = tiny_hf("llama")
    hf.lm_head = nn.Linear(16, VOCABULARY, bias=False)
    model = LanguageModel.from_hf(hf, None, "projected")
    with pytest.raises(IncompatibleError, match="reads 16 numbers, but the residual stream is 32 wide"):
        unembedding(model, convention="raw")


def test_a_parameterless_layer_norm_folds_as_gain_one() -> None:
    hf = tiny_hf("gpt2")
    hf.transformer.ln_f = nn.LayerNorm(32, elementwise_affine=False)
    stored = hf.get_output_embeddings().weight.T.double()
    stored = stored - stored.mean(0, keepdim=True)
    stored = stored - stored.mean(1, keepdim=True)
    folded = unembedding(LanguageModel.from_hf(hf, None, "plain"))
    torch.testing.assert_close(folded, stored.float(), rtol=1e-5, atol=1e-6)
