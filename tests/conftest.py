"""Models that every test may use: tiny random ones of four families, and the real demo model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model

os.environ.setdefault("HF_HUB_OFFLINE", "1")
VOCABULARY = 260


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads the developer's `.env`, `onesense.toml` or environment."""
    for name in list(os.environ):
        if name.startswith("ONESENSE_") and name not in ("ONESENSE_DATA", "ONESENSE_CACHE"):
            monkeypatch.delenv(name)
    for name in ("MODEL_NAME", "SAE_RELEASE", "SAE_ID", "LAYER", "TOP_ACTIVATIONS_FILE", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


def make_byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte (no merges), then BOS 256, EOS 257, and a padded rest of the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<bos>", special=True), AddedToken("<eos>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    return make_byte_tokenizer()


def randomised(hf: Any, seed: int) -> Any:
    """Weights large enough that every norm's gain and bias matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1 and "bias" not in name:
                parameter.copy_(1.0 + 0.3 * noise)
            else:
                parameter.copy_(0.2 * noise)
    hf.tie_weights()
    return hf.eval()


def tiny_hf(family: str, seed: int = 0) -> Any:
    """A random Hugging Face model of a family, 3 layers, width 32."""
    llama_like = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "pad_token_id": 257,
    }
    if family == "gpt2":
        config = GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=128, bos_token_id=256, eos_token_id=257
        )
        return randomised(GPT2LMHeadModel(config), seed)
    if family == "llama":
        return randomised(LlamaForCausalLM(LlamaConfig(**llama_like, num_key_value_heads=2)), seed)
    if family == "gpt_neox":
        return randomised(GPTNeoXForCausalLM(GPTNeoXConfig(**llama_like)), seed)
    if family == "gemma2":
        config = Gemma2Config(**llama_like, num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=8)
        return randomised(Gemma2ForCausalLM(config), seed)
    raise ValueError(family)


@pytest.fixture(scope="session")
def tiny_model(byte_tokenizer: PreTrainedTokenizerFast) -> Callable[[str], LanguageModel]:
    made: dict[str, LanguageModel] = {}

    def make(family: str) -> LanguageModel:
        if family not in made:
            made[family] = LanguageModel.from_hf(tiny_hf(family), byte_tokenizer, f"tiny-{family}")
        return made[family]

    return make


@pytest.fixture(scope="session")
def tiny_gpt2(tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_model("gpt2")


@pytest.fixture(scope="session")
def tiny_llama(tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_model("llama")


@pytest.fixture(scope="session")
def tiny_neox(tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_model("gpt_neox")


@pytest.fixture(scope="session")
def tiny_gemma2(tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_model("gemma2")


@pytest.fixture(scope="session")
def demo_model() -> LanguageModel:
    """SmolLM2-135M-Instruct in float32."""
    return load_model("demo", device="cpu")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The benchmark mirror, where ONESENSE_DATA names one."""
    folder = os.environ.get("ONESENSE_DATA")
    if not folder:
        pytest.skip("ONESENSE_DATA names no mirror of the benchmark data")
    return Path(folder)
