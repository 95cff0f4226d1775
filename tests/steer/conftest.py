"""Tiny random models and dictionaries to steer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from tiny_models import tiny_hf

MakeDictionary = Callable[..., Dictionary]


@pytest.fixture(scope="session", params=["gpt2", "llama", "gpt_neox", "gemma2"])
def model(request: pytest.FixtureRequest, tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    """A tiny random model of each family."""
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def other_llama(byte_tokenizer: PreTrainedTokenizerFast) -> LanguageModel:
    """A Llama of the same shape as the tiny one, with other weights."""
    return LanguageModel.from_hf(tiny_hf("llama", seed=1), byte_tokenizer, "other-llama")


@pytest.fixture(scope="session")
def make_dictionary() -> MakeDictionary:
    """Makes random ReLU dictionaries in which about half of the latents fire."""

    def make(
        point: str = "blocks.1.hook_resid_post", *, d_in: int = 32, d_sae: int = 48, seed: int = 0
    ) -> Dictionary:
        generator = torch.Generator().manual_seed(seed)
        decoder = torch.randn(d_sae, d_in, generator=generator)
        decoder /= decoder.norm(dim=1, keepdim=True)
        return Dictionary(
            architecture=Architecture.RELU,
            hook_point=HookPoint.parse(point),
            W_enc=decoder.T.contiguous(),
            b_enc=torch.zeros(d_sae),
            W_dec=decoder,
            b_dec=torch.randn(d_in, generator=generator) * 0.1,
        )

    return make


@pytest.fixture(scope="session")
def dictionary(make_dictionary: MakeDictionary) -> Dictionary:
    """A random dictionary of the middle of a tiny model."""
    return make_dictionary()
