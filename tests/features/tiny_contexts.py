"""A tiny model that reads words, a dictionary for it, and runs of the contexts pass over both."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from onesense.features.contexts import Contexts, ContextSettings, collect_contexts
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Architecture, Dictionary, Origin
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document

LONG_WORD = "x" * 500
WORDS = [*(f"w{index}" for index in range(40)), LONG_WORD]
SETTINGS = ContextSettings(
    context_size=9, batch_tokens=64, top_k=3, bands=3, per_band=2, width=6, windows_per_shard=4
)


def word_model(*, bos: bool = True) -> LanguageModel:
    vocabulary = {word: index for index, word in enumerate(["<s>", "<pad>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>" if bos else None, pad_token="<pad>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    return LanguageModel.from_hf(LlamaForCausalLM(config).float(), fast, "tiny")


def tiny_dictionary(
    point: str = "blocks.1.hook_resid_post", d_in: int = 16, d_sae: int = 12, context_size: int | None = None
) -> Dictionary:
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(d_in, d_sae, generator=generator)
    return Dictionary(
        Architecture.RELU,
        HookPoint.parse(point),
        W_enc=weights,
        b_enc=torch.full((d_sae,), -3.0),
        W_dec=weights.T.contiguous(),
        b_dec=torch.zeros(d_in),
        origin=Origin(context_size=context_size),
    )


def word_documents(n: int = 12) -> list[Document]:
    generator = np.random.default_rng(2)
    lengths = [0, 1, 8, 9, *generator.integers(1, 40, size=n)]
    texts = [" ".join(f"w{token}" for token in generator.integers(0, 40, size=length)) for length in lengths]
    return [Document(index, f"text {index}", text) for index, text in enumerate(texts)]


def new_run(path: Path) -> RunFolder:
    return RunFolder.create_or_resume(path, command="extract", configuration={}, provenance={})


def collected(
    path: Path, *, model=None, dictionary=None, documents=None, settings=SETTINGS, **more
) -> Contexts:
    run = new_run(path)
    with run.lock():
        return collect_contexts(
            model or word_model(),
            dictionary or tiny_dictionary(),
            word_documents() if documents is None else documents,
            run,
            settings=settings,
            **more,
        )


def files(path: Path) -> dict[str, str]:
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file() and file.name != ".lock"
    }
