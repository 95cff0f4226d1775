"""Projections folded into weights give the logits of projections as hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from onesense.debias.export.projection import fold_projections, why_not_foldable
from onesense.errors import IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import applied
from onesense.steer.edit import Operation
from onesense.steer.intervention import Intervention
from onesense.steer.where import EVERYWHERE, Where
from small_recipes import group_of, projections
from tiny_models import randomised

EMBEDDING = ("blocks.0.hook_resid_pre",)
THROUGH_BLOCK_0 = (*EMBEDDING, "blocks.0.hook_resid_mid", "blocks.0.hook_resid_post")


def hooked(model: LanguageModel, edits: list[Intervention], ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), applied(model, edits, warn=False):
        return model.hf(ids).logits


def plain(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.hf(ids).logits


@pytest.fixture(scope="module")
def llama_with_biases(byte_tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    config = LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=256, eos_token_id=257,
        tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
    )  # fmt: skip
    return LanguageModel.from_hf(randomised(LlamaForCausalLM(config), 0), byte_tokenizer, "tied-llama")


@pytest.fixture(params=["gpt2", "llama", "tied-llama", "gpt_neox", "gemma2"])
def model(
    request: pytest.FixtureRequest,
    tiny_model: Callable[[str], LanguageModel],
    llama_with_biases: LanguageModel,
) -> LanguageModel:
    return llama_with_biases if request.param == "tied-llama" else tiny_model(request.param)


@pytest.mark.parametrize("value", [1.0, 0.4])
def test_at_the_embedding(model: LanguageModel, value: float, random_ids: torch.Tensor) -> None:
    edits = projections(model, EMBEDDING, value=value)
    before = copy.deepcopy(model.hf.state_dict())
    wanted = hooked(model, edits, random_ids)
    folded = fold_projections(model, edits)
    assert (wanted - plain(model, random_ids)).abs().max() > 0.05
    # Gemma multiplies embeddings, and their rounding, by the square root of the width.
    allowed = 5e-5 if model.family == "gemma2" else 1e-5
    torch.testing.assert_close(plain(folded, random_ids), wanted, atol=allowed, rtol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.hf.state_dict().items())


@pytest.mark.parametrize("family", ["gpt2", "llama", "tied-llama"])
def test_at_every_state_of_a_block(
    family: str,
    tiny_model: Callable[[str], LanguageModel],
    llama_with_biases: LanguageModel,
    random_ids: torch.Tensor,
) -> None:
    model = llama_with_biases if family == "tied-llama" else tiny_model(family)
    edits = projections(model, (*THROUGH_BLOCK_0, "blocks.1.hook_resid_mid", "blocks.1.hook_resid_post"))
    wanted = hooked(model, edits, random_ids)
    assert (wanted - hooked(model, projections(model, EMBEDDING), random_ids)).abs().max() > 0.05
    folded = fold_projections(model, edits)
    torch.testing.assert_close(plain(folded, random_ids), wanted, atol=1e-5, rtol=1e-5)


def test_blocks_in_parallel_have_no_state_in_the_middle(
    tiny_neox: LanguageModel, random_ids: torch.Tensor
) -> None:
    edits = projections(tiny_neox, (*EMBEDDING, "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"))
    folded = fold_projections(tiny_neox, edits)
    torch.testing.assert_close(
        plain(folded, random_ids), hooked(tiny_neox, edits, random_ids), atol=1e-5, rtol=1e-5
    )


def test_special_tokens_keep_their_embedding(tiny_llama: LanguageModel, random_ids: torch.Tensor) -> None:
    edits = projections(tiny_llama, EMBEDDING, Where())
    folded = fold_projections(tiny_llama, edits)
    wanted = hooked(tiny_llama, edits, random_ids)
    torch.testing.assert_close(plain(folded, random_ids), wanted, atol=1e-5, rtol=1e-5)
    assert (wanted - hooked(tiny_llama, projections(tiny_llama, EMBEDDING), random_ids)).abs().max() > 0.01
    embeddings = [one.hf.get_input_embeddings().weight for one in (folded, tiny_llama)]
    assert torch.equal(embeddings[0][256], embeddings[1][256])


@pytest.mark.parametrize(
    ("points", "where", "value", "reason"),
    [
        (("blocks.1.hook_resid_post",), EVERYWHERE, 1.0, "unprojected"),
        (("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"), EVERYWHERE, 1.0, "unprojected"),
        (("blocks.0.hook_resid_pre", "blocks.0.hook_resid_mid"), EVERYWHERE, 0.5, "unprojected"),
        (THROUGH_BLOCK_0, Where(), 1.0, "special tokens"),
        (("blocks.0.hook_resid_pre", "blocks.0.hook_resid_mid"), EVERYWHERE, 1.0, "not the stream"),
        (("blocks.0.hook_mlp_out",), EVERYWHERE, 1.0, "residual stream"),
        (("blocks.0.hook_resid_pre",), Where(first=2), 1.0, "some positions"),
    ],
)
def test_what_is_not_exact_is_refused(
    tiny_llama: LanguageModel, points: tuple[str, ...], where: Where, value: float, reason: str
) -> None:
    edits = projections(tiny_llama, points, where, value)
    with pytest.raises(IncompatibleError, match=reason) as refused:
        fold_projections(tiny_llama, edits)
    assert "--how merged" in str(refused.value)


def test_other_operations_norms_and_positions_are_refused(
    tiny_llama: LanguageModel, tiny_gemma2: LanguageModel, tiny_gpt2: LanguageModel
) -> None:
    scaled = Intervention(tiny_llama, group_of(EMBEDDING[0], Operation.SCALE, 0.5))
    assert "project_out" in str(why_not_foldable(tiny_llama, [scaled]))
    in_order = projections(tiny_gemma2, THROUGH_BLOCK_0)
    assert "norm" in str(why_not_foldable(tiny_gemma2, in_order))
    with_positions = projections(tiny_gpt2, EMBEDDING, Where())
    assert "position embeddings" in str(why_not_foldable(tiny_gpt2, with_positions))


def test_a_stream_that_is_no_plain_sum_is_noticed(
    tiny_llama: LanguageModel, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    hf = copy.deepcopy(tiny_llama.hf)
    hf.model.embed_tokens.register_forward_hook(lambda _module, _args, output: output.tanh())
    odd = LanguageModel.from_hf(hf, byte_tokenizer, "odd")
    with pytest.raises(IncompatibleError, match="other logits"):
        fold_projections(odd, projections(odd, EMBEDDING))
