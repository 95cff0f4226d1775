"""A model, a dictionary and a text in which every feature's rule is known: feature i fires at the word w<i>."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from onesense.explain.endpoint.chat import ChatReply, ChatRequest, Usage
from onesense.explain.evidence import EvidenceReader
from onesense.explain.negative_pool import PoolSettings
from onesense.explain.negatives import Negatives, collect_negatives
from onesense.explain.prompts import ConfidenceAnswer, ExplanationAnswer, IntruderAnswer
from onesense.explain.scores.judge import Judgement
from onesense.features.contexts import ContextSettings
from onesense.features.extract import ExtractSettings, extract
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Architecture, Dictionary
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document, read_documents

WORDS, FEATURES, WIDTH = 40, 12, 8
SILENT = FEATURES
"""A last feature that never fires."""

POOL = PoolSettings(windows=60, context_size=33, width=WIDTH, nearest=8, partners=3)


def planted_model() -> LanguageModel:
    vocabulary = {
        word: index for index, word in enumerate(["<s>", "<pad>", "<unk>", *(f"w{n}" for n in range(WORDS))])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=48,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    hf = LlamaForCausalLM(config).float()
    hf.model.embed_tokens.weight.data = torch.eye(len(vocabulary), 48)
    return LanguageModel.from_hf(hf, fast, "planted")


def planted_dictionary() -> Dictionary:
    """Feature i reads and writes the word w<i>; the last one needs more than there is."""
    weights = torch.eye(48)[3 : 3 + FEATURES + 1].T.contiguous()
    bias = torch.full((FEATURES + 1,), -0.5)
    bias[SILENT] = -2.0
    return Dictionary(
        Architecture.RELU,
        HookPoint.parse("blocks.0.hook_resid_pre"),
        W_enc=weights,
        b_enc=bias,
        W_dec=weights.T.contiguous(),
        b_dec=torch.zeros(48),
    )


def write_text(path: Path, documents: int = 120) -> Path:
    """Documents of random words, one a line."""
    generator = np.random.default_rng(5)
    lines = [
        " ".join(f"w{word}" for word in generator.integers(0, WORDS, generator.integers(20, 60)))
        for _ in range(documents)
    ]
    path.write_text("\n".join(f'{{"text": "{line}"}}' for line in lines))
    return path


class Planted:
    """An extracted run."""

    def __init__(self, folder: Path) -> None:
        self.model, self.dictionary = planted_model(), planted_dictionary()
        self.text = write_text(folder / "text.jsonl")
        settings = ExtractSettings(
            text=str(self.text),
            check=False,
            dtype="float32",
            contexts=ContextSettings(context_size=33, width=WIDTH, top_k=20, bands=3, per_band=12),
        )
        self.run: RunFolder = extract(self.model, self.dictionary, folder / "run", settings).run

    def documents(self) -> list[Document]:
        return list(read_documents(str(self.text)))

    def reader(self, seed: int = 0) -> EvidenceReader:
        return EvidenceReader(self.run, self.model, seed)

    def negatives(self, settings: PoolSettings = POOL) -> Negatives:
        with self.run.lock():
            return collect_negatives(
                self.model, self.dictionary, self.documents(), self.run, settings=settings
            )


def rule(feature: int) -> str:
    return f"the word w{feature}"


class Oracle:
    """Knows what an explanation means, and judges by it alone."""

    def __init__(self) -> None:
        self.shown = []

    async def judge(self, explanation, contexts):
        self.shown += contexts
        word = 3 + int(explanation.removeprefix("the word w"))
        given = []
        for context in contexts:
            here = tuple(token == word for token in context.token_ids)
            given.append(10.0 if (here == context.marks if any(context.marks) else any(here)) else 0.0)
        return Judgement(tuple(given), usage=Usage(7, 0, 3))

    async def find_intruder(self, contexts):
        self.shown += contexts
        marked = [
            {token for token, mark in zip(one.token_ids, one.marks, strict=True) if mark} for one in contexts
        ]
        common = max((token for one in marked for token in one), key=lambda t: sum(t in m for m in marked))
        return Judgement(tuple(0.0 if one == {common} else 10.0 for one in marked), usage=Usage(7, 0, 3))


class ScriptedEndpoint:
    """Answers at once, and keeps every question."""

    def __init__(self, reply: ChatReply | None = None) -> None:
        self.requests: list[ChatRequest] = []
        self._reply = reply

    async def ask(self, request):
        self.requests.append(request)
        if self._reply is not None:
            return self._reply
        number = sum(line.split(".")[0].isdigit() for line in request.user.split("\n"))
        answer = {
            ExplanationAnswer: lambda: ExplanationAnswer(explanation="a word"),
            ConfidenceAnswer: lambda: ConfidenceAnswer(confidence=[7] * number),
            IntruderAnswer: lambda: IntruderAnswer(intruder=1),
        }[request.answer]()
        return ChatReply("ok", answer, usage=Usage(100, 0, 5))
