"""Do units with more senses carry more bias? Rank correlations with intervals, raw and for units alike in size.

The partial correlation is that of what is left of the ranks after a linear regression on the ranks of firing rate
and norm, as in Kim (2015), *ppcor: An R Package for a Fast Calculation to Semi-partial Correlation Coefficients*.
A logarithm does not change ranks, so the rates and norms are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from onesense.bias.statistics.bootstrap import interval
from onesense.bias.statistics.family import holm
from onesense.debias.results import Interval
from onesense.study.units import Floats, UnitTable

BIAS, BIAS_PER_KL, FACT_PER_BIAS = "bias", "bias per √KL", "fact per bias"
OUTCOMES = (BIAS, BIAS_PER_KL, FACT_PER_BIAS)
EFFECTIVE, SEVERAL = "effective senses", "several senses"
MEASURES = (EFFECTIVE, SEVERAL)

FEWEST_UNITS = 20
_LEVEL = 0.05
_NOTHING = 1e-12


class Finding(StrEnum):
    """What an interval says of a relation."""

    RELATED = "related"
    OPPOSITE = "opposite"
    NOT_DETECTABLE = "not detectable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Relation:
    """How a measure of senses and an effect go together over the units of a set.

    Attributes:
        unit_set: Name of the set.
        outcome: One of ``OUTCOMES``.
        measure: One of ``MEASURES``.
        units: Units that counted.
        left_out: Units without one of the numbers.
        rho: Spearman's rank correlation with its percentile bootstrap interval over units.
        p: Two-sided, by Student's t; 1 where it is undefined.
        partial: The same with firing rate and norm held equal.
        partial_p: Its p.
        p_holm: p after Holm's correction over the family of all tests; None before that.
        partial_p_holm: The same of the partial correlation.
    """

    unit_set: str
    outcome: str
    measure: str
    units: int
    left_out: int
    rho: Interval
    p: float
    partial: Interval
    partial_p: float
    p_holm: float | None = None
    partial_p_holm: float | None = None

    @property
    def finding(self) -> Finding:
        """What can be said of units alike in firing rate and norm."""
        return finding_of(
            self.partial, self.partial_p if self.partial_p_holm is None else self.partial_p_holm
        )


def finding_of(found: Interval, p: float) -> Finding:
    """Related or opposite only where the interval excludes 0 and the corrected test agrees."""
    if not np.isfinite([found.value, found.low, found.high]).all():
        return Finding.UNKNOWN
    if p <= _LEVEL and found.low > 0:
        return Finding.RELATED
    if p <= _LEVEL and found.high < 0:
        return Finding.OPPOSITE
    return Finding.NOT_DETECTABLE


def relations(units: UnitTable, *, draws: int, seed: int) -> list[Relation]:
    """Every outcome against every measure of senses, for one set; p-values are not corrected yet.

    Args:
        units: The units.
        draws: Bootstrap draws.
        seed: Of the draws.
    """
    measures = np.stack([units.effective, units.several])
    controls = np.stack([units.density, units.norm])
    found = []
    for outcome, values in zip(OUTCOMES, _outcomes(units), strict=True):
        rows = np.vstack([values[None], measures, controls])
        usable = np.isfinite(rows).all(axis=0) & (units.number > 0)
        kept = rows[:, usable]
        for measure, raw, partial in zip(MEASURES, *_correlations(kept, draws=draws, seed=seed), strict=True):
            size = kept.shape[1]
            found.append(
                Relation(
                    units.name,
                    outcome,
                    measure,
                    size,
                    len(units) - size,
                    rho=raw,
                    p=_p(raw.value, size - 2),
                    partial=partial,
                    partial_p=_p(partial.value, size - 2 - len(controls)),
                )
            )
    return found


def corrected(found: Sequence[Relation]) -> list[Relation]:
    """The same relations with p-values corrected by Holm over all of them, raw and partial together."""
    values = holm([p for one in found for p in (one.p, one.partial_p)])
    return [
        replace(one, p_holm=values[2 * k], partial_p_holm=values[2 * k + 1]) for k, one in enumerate(found)
    ]


def partial_correlations(correlations: Floats, measures: int) -> tuple[Floats, Floats]:
    """Correlation of the first row with each measure, and the same with the controls held equal.

    Args:
        correlations: Of outcome, measures and controls in this order, [rows, rows].
        measures: How many measures.

    Returns:
        Both [measures]; NaN where a row has no spread (of its own).
    """
    raw = correlations[0, 1 : 1 + measures]
    tested, controls = slice(0, 1 + measures), slice(1 + measures, None)
    across = correlations[tested, controls]
    # A control that does not vary explains nothing.
    varying = np.isfinite(np.diag(correlations[controls, controls]))
    across = across[:, varying]
    between = correlations[controls, controls][np.ix_(varying, varying)]
    left = correlations[tested, tested] - across @ np.linalg.pinv(between) @ across.T
    own = np.diag(left)
    with np.errstate(divide="ignore", invalid="ignore"):
        partial = left[0, 1:] / np.sqrt(own[0] * own[1:])
    defined = (own[0] > _NOTHING) & (own[1:] > _NOTHING)
    return raw, np.where(defined, np.clip(partial, -1, 1), np.nan)


def _outcomes(units: UnitTable) -> list[Floats]:
    return [units.bias, units.bias_per_kl, units.fact_per_bias]


def _correlations(rows: Floats, *, draws: int, seed: int) -> tuple[list[Interval], list[Interval]]:
    """Raw and partial rank correlations of the first row with each measure, with intervals."""
    size = rows.shape[1]
    if size < FEWEST_UNITS:
        nothing = [Interval(np.nan, np.nan, np.nan)] * len(MEASURES)
        return nothing, nothing
    values = np.stack(_ranked(rows))
    generator = np.random.default_rng([seed, size])
    drawn = np.stack([_ranked(rows[:, generator.integers(0, size, size)]) for _ in range(draws)])
    intervals = [
        [
            Interval(float(values[k, m]), *interval(float(values[k, m]), drawn[:, k, m], size))
            for m in range(len(MEASURES))
        ]
        for k in range(2)
    ]
    return intervals[0], intervals[1]


def _ranked(rows: Floats) -> tuple[Floats, Floats]:
    ranks = rankdata(rows, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return partial_correlations(np.asarray(np.corrcoef(ranks)), len(MEASURES))


def _p(value: float, freedom: int) -> float:
    """Two-sided p of a correlation by Student's t."""
    if not np.isfinite(value) or freedom < 1:
        return 1.0
    if abs(value) >= 1:
        return 0.0
    statistic = value * np.sqrt(freedom / (1 - value * value))
    return float(2 * student.sf(abs(statistic), freedom))
