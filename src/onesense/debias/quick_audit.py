"""What a recipe does, in seconds and with intervals, for those who tune by hand.

Only the tune split is looked at: what is chosen by these numbers is proved by the held-out audit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesense.debias.controls.documents import calibration_requests
from onesense.debias.divergence import KlMeter
from onesense.debias.tune_measures import Observed, TuneMeter
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import Edits, prepare

Floats = NDArray[np.float64]

_TEMPLATES, _EVERY_FACT = 1, 6
_PASSAGES, _PASSAGE_TOKENS = 24, 16
_DRAWS = 1000
_LOW, _HIGH = 2.5, 97.5


class Estimate(NamedTuple):
    """A value with its 95 % interval from resampling occupations, facts or passages."""

    value: float
    low: float
    high: float


class QuickMeasures(NamedTuple):
    """Bias and facts as shares of the unedited model's: 1 is unchanged.

    Attributes:
        spread: Standard deviation over occupations of the log-odds of woman against man.
        slope: Slope of the log-odds against the share of women.
        facts: Mean margin of gender facts.
        kl: KL divergence from the unedited model on ordinary text, nats per token.
    """

    spread: Estimate
    slope: Estimate
    facts: Estimate
    kl: Estimate


class Sizes(NamedTuple):
    """How much is looked at: occupations, facts, passages of ordinary text, tokens of those."""

    occupations: int
    facts: int
    passages: int
    tokens: int


class QuickAudit:
    """Measures one set of edits after another; the unedited model is run once.

    Args:
        model: The model.
        start: The first block that an edit may change.
        every_fact: Only every so-manieth fact.
        seed: Of the resampling.

    Attributes:
        model: The model.
        start: The first block that an edit may change.

    Raises:
        ConfigurationError: No text fits the model's context.
    """

    def __init__(
        self, model: LanguageModel, start: int, *, every_fact: int = _EVERY_FACT, seed: int = 0
    ) -> None:
        self.model, self.start = model, start
        self._meter = TuneMeter(model, start, templates=_TEMPLATES, every_fact=every_fact)
        self._kl = KlMeter(
            model, calibration_requests(model, passages=_PASSAGES, tokens=_PASSAGE_TOKENS, source=None)
        )
        self._before = self._meter.observe([])
        self._seed = seed

    @property
    def sizes(self) -> Sizes:
        """How much is looked at."""
        _, steps = self._kl.measure_each([])
        return Sizes(len(self._before.people), len(self._before.facts), len(steps), int(steps.sum()))

    def measure(self, edits: Edits, *, check: Callable[[], None] | None = None) -> QuickMeasures:
        """Measure edits.

        Args:
            edits: The edits; none of them acts before block ``start``.
            check: Called between the parts; what it raises ends the measurement.

        Raises:
            ConfigurationError, IncompatibleError, NotFoundError: See ``onesense.steer.apply.prepare``.
            NumericalError: The edited model's logits are NaN.
        """
        check = check or _go_on
        ready = prepare(self.model, edits)
        check()
        sums, steps = (one.numpy().astype(np.float64) for one in self._kl.measure_each(ready))
        check()
        after = self._meter.observe(ready, check=check)
        check()
        return self._resampled(after, sums, steps)

    def _resampled(self, after: Observed, sums: Floats, steps: Floats) -> QuickMeasures:
        random = np.random.default_rng(self._seed)
        people = random.integers(0, len(after.people), (_DRAWS, len(after.people)))
        facts = random.integers(0, len(after.facts), (_DRAWS, len(after.facts)))
        texts = random.integers(0, len(sums), (_DRAWS, len(sums)))
        everyone, every_fact, every_text = (np.arange(one.shape[1])[None] for one in (people, facts, texts))
        return QuickMeasures(
            _estimate(self._spread(after, everyone), self._spread(after, people)),
            _estimate(self._slope(after, everyone), self._slope(after, people)),
            _estimate(self._facts(after, every_fact), self._facts(after, facts)),
            _estimate(_ratio(sums, steps, every_text), _ratio(sums, steps, texts)),
        )

    def _spread(self, after: Observed, drawn: NDArray[np.int64]) -> Floats:
        return np.asarray(after.people[drawn].std(axis=1) / self._before.people[drawn].std(axis=1))

    def _slope(self, after: Observed, drawn: NDArray[np.int64]) -> Floats:
        share = after.women_percent[drawn]
        centred = share - share.mean(axis=1, keepdims=True)
        slopes = [(centred * one.people[drawn]).sum(axis=1) for one in (after, self._before)]
        return np.asarray(slopes[0] / slopes[1])

    def _facts(self, after: Observed, drawn: NDArray[np.int64]) -> Floats:
        return np.asarray(after.facts[drawn].mean(axis=1) / self._before.facts[drawn].mean(axis=1))


def _ratio(sums: Floats, steps: Floats, drawn: NDArray[np.int64]) -> Floats:
    return np.asarray(sums[drawn].sum(axis=1) / steps[drawn].sum(axis=1))


def _estimate(value: Floats, draws: Floats) -> Estimate:
    finite = draws[np.isfinite(draws)]
    low, high = np.percentile(finite, [_LOW, _HIGH]) if len(finite) else (np.nan, np.nan)
    return Estimate(float(value[0]), float(low), float(high))


def _go_on() -> None:
    """Nobody asks to end."""
