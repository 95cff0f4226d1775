"""What tuning makes small: the spread of neutral log-odds, lost margins of facts, divergence on ordinary text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from onesense.bias.scoring.requests import Request
from onesense.debias.contrasts import Contrast
from onesense.debias.forward import PreparedTexts, log_probabilities, prepare_texts, token_logits, unedited
from onesense.debias.token_divergence import token_divergences
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.steer.intervention import Intervention

_SMALLEST_VARIANCE = 0.05
_FEWEST = 8
# Log-probabilities of the unedited model above this are made anew from its last hidden states.
_KEPT_BYTES = 1 << 30

T = TypeVar("T")
Edited = Callable[[], Sequence[Intervention]]


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """How much of each kind a step looks at.

    Attributes:
        people: People, each in ``groups`` groups.
        groups: Groups of neutral prompts, such as templates.
        facts: Facts.
        passages: Passages of ordinary text.
    """

    people: int = 20
    groups: int = 2
    facts: int = 24
    passages: int = 4


class Losses(NamedTuple):
    """The three parts of one step, each a number on the graph or off it.

    ``bias`` is the variance over people of their log-odds, averaged over the groups in which a person is seen, as a
    share of the unedited model's; ``facts`` the mean squared loss of margin in nats², where the unedited model is
    right (gains count nothing); ``kl`` in nats per token.
    """

    bias: Tensor
    facts: Tensor
    kl: Tensor


@dataclass(frozen=True, eq=False)
class _Contrasts:
    texts: PreparedTexts
    base: Tensor
    sign: Tensor
    centring: Tensor


@dataclass(frozen=True, eq=False)
class _Prose:
    """Passages, their last hidden states in the unedited model, and the log-probabilities made of them, if kept."""

    texts: PreparedTexts
    whole: PreparedTexts
    base: Tensor | None


class Objective:
    """Batches of what is tuned on, with everything before the first edited block computed once.

    Args:
        model: The model.
        neutral: Neutral prompts in sets: within one, every person is seen in every group.
        facts: Facts.
        passages: Ordinary text.
        start: The first block that an edit may change.
        seed: Of the order.
        sizes: Sizes of the batches.
        resume: Whether to keep what comes before the first edited block; off, every pass runs the whole model.

    Raises:
        ConfigurationError: Too few prompts for a batch, or no facts or passages.
    """

    def __init__(
        self,
        model: LanguageModel,
        neutral: Sequence[Sequence[Contrast]],
        facts: Sequence[Contrast],
        passages: Sequence[Request],
        *,
        start: int,
        seed: int,
        sizes: BatchSizes | None = None,
        resume: bool = True,
    ) -> None:
        sizes = sizes or BatchSizes()
        self.model, self.start, self._resume = model, start, resume
        order = np.random.default_rng(seed)
        batches = [batch for contrasts in neutral for batch in _crossed(contrasts, sizes, order)]
        self._neutral_texts = _shuffled(batches, order)
        self._fact_texts = _cut(_shuffled(facts, order), sizes.facts)
        self._prose_texts = _cut(_shuffled(passages, order), sizes.passages)
        if not (self._neutral_texts and self._fact_texts and self._prose_texts):
            raise ConfigurationError(
                f"{sum(map(len, neutral))} neutral prompts, {len(facts)} facts and {len(passages)} passages are too "
                "few.",
                hint=f"Tuning needs at least {_FEWEST} prompts of one kind, one fact and one passage.",
            )
        self._contrasts: dict[tuple[str, int], _Contrasts] = {}
        self._prose: dict[int, _Prose] = {}
        self._held = 0

    @property
    def round(self) -> int:
        """How many steps see every neutral prompt once."""
        return len(self._neutral_texts)

    def backward(self, step: int, edited: Edited, *, facts: float, kl: float) -> Losses:
        """Add the gradients of ``bias + facts weight · facts + kl price · kl`` for the batches of a step.

        Each part goes back by itself, so that one graph is held at a time.

        Args:
            step: Which batches.
            edited: Gives the edits, their amounts on a new graph each time.
            facts: Weight of the facts.
            kl: Price of the divergence.
        """
        bias = self._bias(step, edited())
        bias.backward()
        lost = self._facts(step, edited())
        (facts * lost).backward()
        divergence = self._kl(step, edited())
        (kl * divergence).backward()
        return Losses(bias.detach(), lost.detach(), divergence.detach())

    @torch.no_grad()
    def measure(self, step: int, edits: Sequence[Intervention]) -> Losses:
        """The losses of a step's batches, without gradients."""
        return Losses(self._bias(step, edits), self._facts(step, edits), self._kl(step, edits))

    def log_odds(self, contrasts: Sequence[Contrast], edits: Sequence[Intervention]) -> Tensor:
        """Log-odds of woman against man, [contrasts]."""
        return _log_odds(self.model, self._prepared(contrasts), edits)

    def _bias(self, step: int, edits: Sequence[Intervention]) -> Tensor:
        batch = self._batch("neutral", self._neutral_texts, step)
        before = (batch.centring @ batch.base).var().clamp_min(_SMALLEST_VARIANCE)
        return (batch.centring @ _log_odds(self.model, batch.texts, edits)).var() / before

    def _facts(self, step: int, edits: Sequence[Intervention]) -> Tensor:
        batch = self._batch("facts", self._fact_texts, step)
        before = batch.base * batch.sign
        lost = (before - _log_odds(self.model, batch.texts, edits) * batch.sign).clamp_min(0)
        known = before > 0
        return (lost[known] ** 2).sum() / known.sum().clamp_min(1)

    def _kl(self, step: int, edits: Sequence[Intervention]) -> Tensor:
        prose = self._passages(step)
        base = self._base(prose.whole) if prose.base is None else prose.base
        divergences = token_divergences(base, token_logits(self.model, prose.texts, edits))
        return divergences[prose.texts.origin.to(divergences.device)].mean()

    def _passages(self, step: int) -> _Prose:
        place = step % len(self._prose_texts)
        if place not in self._prose:
            passages = self._prose_texts[place]
            texts = self._one(passages, self.start)
            # Both ways give the same bits, whatever was looked at before.
            whole = unedited(self.model, texts)
            size = len(texts.nodes) * self.model.vocab_size * torch.float32.itemsize
            kept = self._resume and self._held + size <= _KEPT_BYTES
            self._held += size if kept else 0
            self._prose[place] = _Prose(texts, whole, self._base(whole) if kept else None)
        return self._prose[place]

    @torch.no_grad()
    def _base(self, texts: PreparedTexts) -> Tensor:
        """Log-probabilities of the unedited model, [nodes, vocabulary]."""
        return token_logits(self.model, texts, ()).log_softmax(-1)

    def _batch(self, kind: str, batches: Sequence[Sequence[Contrast]], step: int) -> _Contrasts:
        place = step % len(batches)
        if (kind, place) not in self._contrasts:
            texts = self._prepared(batches[place])
            with torch.no_grad():
                base = _log_odds(self.model, texts, ())
            sign = torch.tensor([float(one.sign) for one in batches[place]], device=base.device)
            centring = _centring(batches[place]).to(base.device)
            self._contrasts[kind, place] = _Contrasts(texts, base, sign, centring)
        return self._contrasts[kind, place]

    def _prepared(self, contrasts: Sequence[Contrast]) -> PreparedTexts:
        return self._one([request for one in contrasts for request in one.requests()], self.start)

    def _one(self, requests: Sequence[Request], start: int) -> PreparedTexts:
        return prepare_texts(self.model, requests, start, resume=self._resume)[0]


def _log_odds(model: LanguageModel, texts: PreparedTexts, edits: Sequence[Intervention]) -> Tensor:
    scores = log_probabilities(texts, token_logits(model, texts, edits))
    return scores[0::2] - scores[1::2]


def _crossed(
    contrasts: Sequence[Contrast], sizes: BatchSizes, order: np.random.Generator
) -> list[list[Contrast]]:
    """Batches of some people in some groups, so that every person is seen in every group once."""
    found = {(one.person, one.group): one for one in contrasts}
    groups = _shuffled(list(dict.fromkeys(one.group for one in contrasts)), order)
    batches = []
    for some in _cut(groups, sizes.groups):
        people = [
            person
            for person in dict.fromkeys(one.person for one in contrasts)
            if all((person, group) in found for group in some)
        ]
        for part in _cut(_shuffled(people, order), sizes.people):
            if len(part) >= _FEWEST:
                batches.append([found[person, group] for group in some for person in part])
    return batches


def _centring(contrasts: Sequence[Contrast]) -> Tensor:
    """What gives each person's mean over groups, every group less its own mean, [people, contrasts]."""
    people = list(dict.fromkeys(one.person for one in contrasts))
    averaging = torch.zeros(len(people), len(contrasts))
    for place, one in enumerate(contrasts):
        averaging[people.index(one.person), place] = 1
    averaging = averaging / averaging.sum(1, keepdim=True)
    centred = torch.eye(len(contrasts))
    for group in dict.fromkeys(one.group for one in contrasts):
        mine = torch.tensor([float(one.group == group) for one in contrasts])
        centred = centred - torch.outer(mine, mine) / mine.sum()
    return averaging @ centred


def _shuffled(items: Sequence[T], order: np.random.Generator) -> list[T]:
    return [items[at] for at in order.permutation(len(items))]


def _cut(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[at : at + size]) for at in range(0, len(items), size)]
