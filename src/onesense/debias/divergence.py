"""KL divergence of edited models from their base on fixed texts, the base run once for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from onesense.bias.scoring.encoded import encode_requests
from onesense.bias.scoring.requests import Request
from onesense.debias.controls.calibrate import divergence_of
from onesense.debias.forward import (
    PreparedTexts,
    edited_until,
    first_edited_block,
    prepare_texts,
    token_logits,
)
from onesense.debias.token_divergence import token_divergences
from onesense.errors import ConfigurationError, NumericalError
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import Edits, prepare
from onesense.steer.intervention import Intervention

_TOKENS_PER_PASS = 512
# Log-probabilities of the unedited model above this are computed anew each time.
KEPT_BYTES = 1 << 30


class KlMeter:
    """KL(base || edited) in nats per token over fixed texts, for one set of edits after another.

    The unedited model is run once: its log-probabilities are kept, and so is the input of the first edited
    block, from which each measurement goes on.

    Args:
        model: The model.
        requests: The texts; those longer than the model's context do not count.

    Raises:
        ConfigurationError: No text fits the model's context.
    """

    def __init__(self, model: LanguageModel, requests: Sequence[Request]) -> None:
        encoded = encode_requests(model, requests)
        self._model = model
        self._requests = [
            request
            for request, text in zip(requests, encoded, strict=True)
            if len(text.ids) <= model.max_context
        ]
        if not self._requests:
            raise ConfigurationError(
                f"None of {len(requests)} texts fits the context of `{model.name}`.",
                hint="Give shorter texts.",
            )
        self._prepared: dict[int, list[PreparedTexts]] = {}
        self._going_on: list[tuple[PreparedTexts, PreparedTexts]] | None = None
        self._base: dict[int, Tensor] = {}
        self._held = 0

    @property
    def identity(self) -> str:
        """How many texts there are, and a hash of them: KL on other texts is another number."""
        digest = hashlib.sha256(repr(self._requests).encode()).hexdigest()
        return f"{len(self._requests)} texts, {digest[:16]}"

    @torch.no_grad()
    def going_on(self, edits: Sequence[Intervention], start: int) -> KlMeter:
        """A meter of what acts from block ``start`` on, on top of edits before it, which are run only once."""
        twin = copy(self)
        twin._going_on = [
            (texts, edited_until(self._model, texts, edits, start))
            for texts in self._texts(first_edited_block(edits))
        ]
        return twin

    @torch.no_grad()
    def measure(self, edits: Edits) -> float:
        """KL of some edits; that of ``divergence_of`` on the same texts.

        Raises:
            NumericalError: The edited model's logits are NaN.
            IncompatibleError, ConfigurationError, NotFoundError: See ``onesense.steer.apply.prepare``.
        """
        interventions = prepare(self._model, edits)
        if self._going_on is None and not interventions:
            return 0.0
        if any(edit.where.needs_prompt_end for one in interventions for edit in one.edits):
            return divergence_of(self._model, self._requests, interventions)  # shared prefixes have no end
        sums, steps = self._each(interventions)
        return float(sums.sum() / steps.sum())

    @torch.no_grad()
    def measure_each(self, edits: Edits) -> tuple[Tensor, Tensor]:
        """The same text by text.

        Returns:
            Sum of the KL over each text's steps, float64 [texts], and how many steps it has, long [texts].

        Raises:
            ConfigurationError: An edit acts by where a prompt ends; or what ``measure`` refuses.
            NumericalError: The edited model's logits are NaN.
        """
        interventions = prepare(self._model, edits)
        if any(edit.where.needs_prompt_end for one in interventions for edit in one.edits):
            raise ConfigurationError(
                "Ordinary text has no prompt, so an edit of a prompt's end cannot be measured on it.",
                hint="Use the window `all`.",
            )
        if not interventions:
            _, steps = self._counted(self._texts(0))
            return torch.zeros(len(self._requests), dtype=torch.float64), steps
        return self._each(interventions)

    def _each(self, interventions: Sequence[Intervention]) -> tuple[Tensor, Tensor]:
        pairs = self._going_on
        if pairs is None:
            pairs = [(texts, texts) for texts in self._texts(first_edited_block(interventions))]
        sums, steps = self._counted([texts for _, texts in pairs])
        for number, (plain, texts) in enumerate(pairs):
            base = self._base_of(number, plain)
            kl = token_divergences(base, token_logits(self._model, texts, interventions)).clamp_min(0).cpu()
            sums.index_add_(0, texts.text.cpu(), kl[texts.origin.cpu()].double())
        if bool(sums.isnan().any()):
            raise NumericalError(
                f"With these edits the logits of `{self._model.name}` are NaN.",
                hint="Load the model in float32, or lower the edits.",
            )
        return sums, steps

    def _counted(self, batches: Sequence[PreparedTexts]) -> tuple[Tensor, Tensor]:
        """Zeros for each text, and its number of steps."""
        steps = torch.zeros(len(self._requests), dtype=torch.long)
        for texts in batches:
            steps.index_add_(0, texts.text.cpu(), torch.ones(len(texts.text), dtype=torch.long))
        return torch.zeros(len(self._requests), dtype=torch.float64), steps

    def _texts(self, start: int) -> list[PreparedTexts]:
        """The texts in batches, which go on from block ``start`` of the unedited model."""
        if start not in self._prepared:
            self._prepared[start] = prepare_texts(
                self._model, self._requests, start, max_tokens=_TOKENS_PER_PASS
            )
        return self._prepared[start]

    def _base_of(self, number: int, texts: PreparedTexts) -> Tensor:
        """Log-probabilities of the unedited model at the nodes of a batch, [nodes, vocabulary]."""
        kept = self._base.get(number)
        if kept is None:
            kept = token_logits(self._model, texts, []).log_softmax(-1)
            if self._held + kept.nbytes <= KEPT_BYTES:
                self._base[number] = kept
                self._held += kept.nbytes
        return kept
