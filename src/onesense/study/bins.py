"""The figure's numbers: how much bias units carry for what they cost, by how much they look like several senses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from onesense.bias.statistics.bootstrap import interval
from onesense.debias.results import Interval
from onesense.study.relation import FEWEST_UNITS
from onesense.study.units import UnitTable

BINS = 8


@dataclass(frozen=True, slots=True)
class Bin:
    """Units of a set that look alike in their senses.

    Attributes:
        low: Smallest `several` in it.
        high: Largest.
        several: Mean `several`.
        units: How many.
        rank: Mean place of their bias per √KL among all units of the set, in percent: 50 is the middle, 100 the
            most; with its bootstrap interval over units.
        bias_per_kl: Mean bias per √KL, nats per √nat.
    """

    low: float
    high: float
    several: float
    units: int
    rank: Interval
    bias_per_kl: float


def binned(units: UnitTable, *, draws: int, seed: int, bins: int = BINS) -> list[Bin]:
    """Bins of equal size from one sense to several; none where there are too few units.

    Places and not values are averaged, as Spearman's correlation does: a few units with most of the bias would
    stand for a whole bin otherwise.

    Args:
        units: The units.
        draws: Bootstrap draws.
        seed: Of the draws.
        bins: How many.
    """
    usable = np.isfinite(units.bias_per_kl) & np.isfinite(units.several) & (units.number > 0)
    several, carried = units.several[usable], units.bias_per_kl[usable]
    size = len(several)
    if size < max(bins, FEWEST_UNITS):
        return []
    places = 100 * (rankdata(carried) - 0.5) / size
    generator = np.random.default_rng([seed, size])
    found = []
    for part in np.array_split(np.argsort(several, kind="stable"), bins):
        own = places[part]
        means = own[generator.integers(0, len(own), (draws, len(own)))].mean(axis=1)
        value = float(own.mean())
        found.append(
            Bin(
                low=float(several[part].min()),
                high=float(several[part].max()),
                several=float(several[part].mean()),
                units=len(part),
                rank=Interval(value, *interval(value, means, len(own))),
                bias_per_kl=float(carried[part].mean()),
            )
        )
    return found
