"""Tiny random models and dictionaries to steer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary

MakeDictionary = Callable[..., Dictionary]
BOS = "<|endoftext|>"


def _tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token; id 0 is the BOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {BOS: 0} | {character: number for number, character in enumerate(alphabet, start=1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS)


def _gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    # A wide spread of the weights makes positions, attention and edits matter in the logits.
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=260, n_positions=64, n_embd=32, n_layer=3, n_head=4, initializer_range=0.2,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


def _llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=260, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """A tiny random model of either family."""
    hf = _gpt2() if request.param == "gpt2" else _llama()
    return LanguageModel.from_hf(hf, _tokenizer(), f"tiny-{request.param}")


@pytest.fixture(scope="session")
def llama() -> LanguageModel:
    """A tiny random Llama."""
    return LanguageModel.from_hf(_llama(), _tokenizer(), "tiny-llama")


@pytest.fixture(scope="session")
def other_llama() -> LanguageModel:
    """A Llama of the same shape with other weights."""
    hf = _llama()
    with torch.no_grad():
        hf.lm_head.weight.add_(0.1)
    return LanguageModel.from_hf(hf, _tokenizer(), "other-llama")


@pytest.fixture(scope="session")
def make_dictionary() -> MakeDictionary:
    """Makes random ReLU dictionaries in which about half of the latents fire."""

    def make(
        point: str = "blocks.1.hook_resid_post", *, d_in: int = 32, d_sae: int = 48, seed: int = 0
    ) -> Dictionary:
        generator = torch.Generator().manual_seed(seed)
        decoder = torch.randn(d_sae, d_in, generator=generator)
        decoder /= decoder.norm(dim=1, keepdim=True)
        bias = torch.randn(d_in, generator=generator) * 0.1
        return Dictionary(
            W_enc=decoder.T.contiguous(),
            b_enc=torch.zeros(d_sae),
            W_dec=decoder,
            b_dec=bias,
            architecture=Architecture.RELU,
            hook_point=HookPoint.parse(point),
        )

    return make


@pytest.fixture(scope="session")
def dictionary(make_dictionary: MakeDictionary) -> Dictionary:
    """A random dictionary of the middle of a tiny model."""
    return make_dictionary()
