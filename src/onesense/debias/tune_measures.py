"""How far a recipe gets on the tune split: what the Pareto front shows, and what one feature is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from onesense.bias.benchmark import Split
from onesense.bias.scoring.requests import Request
from onesense.debias.contrasts import Contrast, fact_contrasts, occupation_contrasts
from onesense.debias.forward import (
    PreparedTexts,
    edited_until,
    log_probabilities,
    prepare_texts,
    token_logits,
)
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import Edits, prepare
from onesense.steer.intervention import Intervention

Floats = NDArray[np.float64]
_TOKENS_OF_A_PASS = 384


class TuneMeasures(NamedTuple):
    """As shares of the unedited model's: 1 is unchanged.

    Attributes:
        spread: Standard deviation over occupations of the log-odds.
        slope: Slope of the log-odds against the share of women.
        facts: Mean margin of facts.
    """

    spread: float
    slope: float
    facts: float


class Observed(NamedTuple):
    """What recipes are measured by, one value each.

    Attributes:
        people: Mean log-odds of woman against man of each occupation, [occupations].
        women_percent: Share of women in it, in percent, [occupations].
        facts: Margin of each fact, [facts].
    """

    people: Floats
    women_percent: Floats
    facts: Floats


class TuneMeter:
    """Measures recipes on occupations and facts of the tune split.

    Args:
        model: The model.
        start: The first block that an edit may change.
        templates: Templates of the occupations.
        every_fact: Only every so-manieth fact.
    """

    def __init__(self, model: LanguageModel, start: int, *, templates: int = 4, every_fact: int = 3) -> None:
        self._model = model
        neutral = occupation_contrasts((Split.TUNE,))
        groups = list(dict.fromkeys(one.group for one in neutral))
        kept = set(groups[:: max(1, len(groups) // templates)][:templates])
        self._neutral = _Prepared(model, [one for one in neutral if one.group in kept], start)
        self._facts = _Prepared(model, fact_contrasts()[::every_fact], start)
        self._before = self._people(()), self._margin(())

    def going_on(self, edits: Sequence[Intervention], start: int) -> TuneMeter:
        """A meter of what acts from block ``start`` on, on top of edits before it, which are run only once."""
        twin = copy(self)
        twin._neutral = self._neutral.going_on(edits, start)
        twin._facts = self._facts.going_on(edits, start)
        return twin

    def measure(self, edits: Edits, *, facts: bool = True) -> TuneMeasures:
        """Measure edits.

        Args:
            edits: The edits.
            facts: Whether the facts are measured too; NaN for them where not.
        """
        ready = prepare(self._model, edits)
        people, margin = self._before
        after = self._people(ready)
        return TuneMeasures(
            spread=float(after.std() / people.std()),
            slope=self._slope(after) / self._slope(people),
            facts=self._margin(ready) / margin if facts else float("nan"),
        )

    def observe(self, edits: Edits, *, check: Callable[[], None] | None = None) -> Observed:
        """What ``measure`` sums up, for those who resample it.

        Args:
            edits: The edits.
            check: Called between occupations and facts; what it raises ends the measurement.
        """
        ready = prepare(self._model, edits)
        people = self._people(ready)
        if check is not None:
            check()
        share = np.array([one.women_percent for one in self._neutral.contrasts[: len(people)]])
        return Observed(people, share, self._margins(ready))

    def _people(self, edits: Sequence[Intervention]) -> Floats:
        """Mean log-odds of each occupation, less nothing: templates are the same for all."""
        names = list(dict.fromkeys(one.person for one in self._neutral.contrasts))
        values = self._neutral.log_odds(edits).reshape(-1, len(names))
        return np.asarray(values.mean(axis=0))

    def _slope(self, log_odds: Floats) -> float:
        share = np.array([one.women_percent for one in self._neutral.contrasts[: len(log_odds)]])
        centred = share - share.mean()
        return float(centred @ log_odds / (centred @ centred))

    def _margin(self, edits: Sequence[Intervention]) -> float:
        return float(self._margins(edits).mean())

    def _margins(self, edits: Sequence[Intervention]) -> Floats:
        sign = np.array([one.sign for one in self._facts.contrasts])
        return np.asarray(sign * self._facts.log_odds(edits))


class _Prepared:
    """Contrasts in batches, with what comes before the first edit."""

    def __init__(self, model: LanguageModel, contrasts: Sequence[Contrast], start: int) -> None:
        self.contrasts = list(contrasts)
        self._model = model
        requests: list[Request] = [request for one in contrasts for request in one.requests()]
        self._batches: list[PreparedTexts] = prepare_texts(
            model, requests, start, max_tokens=_TOKENS_OF_A_PASS
        )

    def going_on(self, edits: Sequence[Intervention], start: int) -> _Prepared:
        """The same contrasts from block ``start`` on, on top of edits before it."""
        twin = copy(self)
        twin._batches = [edited_until(self._model, texts, edits, start) for texts in self._batches]
        return twin

    def log_odds(self, edits: Sequence[Intervention]) -> Floats:
        """Log-odds of woman against man, [contrasts]."""
        with torch.no_grad():
            scores = sum(
                log_probabilities(texts, token_logits(self._model, texts, edits)).double()
                for texts in self._batches
            )
        found = np.asarray(torch.as_tensor(scores).cpu().numpy())
        return np.asarray(found[0::2] - found[1::2])
