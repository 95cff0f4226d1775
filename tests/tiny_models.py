"""Tiny random models of four families and a tokenizer with one token for each byte."""

from __future__ import annotations

from typing import Any

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

VOCABULARY = 260


def make_byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte (no merges), then BOS 256, EOS 257, and a padded rest of the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<bos>", special=True), AddedToken("<eos>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


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
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=128,
            bos_token_id=256,
            eos_token_id=257,
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
