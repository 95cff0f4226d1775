"""KL divergence of edited models from their base on a fixed text, the base run once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from onesense.bias.scoring.requests import Request
from onesense.debias.forward import PreparedTexts, prepare_texts, token_logits
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import prepare
from onesense.steer.intervention import EditGroup, Intervention

_TOKENS_OF_A_PASS = 384


class DivergenceMeter:
    """Measures KL(base || edited) per token.

    Args:
        model: The model.
        requests: The text.
        start: The first block that an edit may change.
    """

    def __init__(self, model: LanguageModel, requests: Sequence[Request], start: int) -> None:
        self._model = model
        # Both cut the same texts alike, so their batches have the same nodes.
        self._edited = prepare_texts(model, requests, start, max_tokens=_TOKENS_OF_A_PASS)
        self._base = prepare_texts(model, requests, model.n_layers, max_tokens=_TOKENS_OF_A_PASS)

    def measure(self, groups: Sequence[EditGroup]) -> float:
        """Nats per token over all positions."""
        edits = prepare(self._model, groups)
        if not edits:
            return 0.0
        total, positions = 0.0, 0
        for texts, whole in zip(self._edited, self._base, strict=True):
            total += self._divergence(texts, whole, edits)
            positions += len(texts.origin)
        return total / positions

    def _divergence(self, texts: PreparedTexts, whole: PreparedTexts, edits: Sequence[Intervention]) -> float:
        with torch.no_grad():
            base = token_logits(self._model, whole, ()).log_softmax(-1)
            after = token_logits(self._model, texts, edits).log_softmax(-1)
            divergences = (base.exp() * (base - after)).sum(-1, dtype=torch.float64)
        # A node that texts share counts once for each.
        return float(divergences.clamp_min(0)[texts.origin.to(divergences.device)].sum())
