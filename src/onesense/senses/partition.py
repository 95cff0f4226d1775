"""The senses of a unit: its contexts cut in two again and again, as long as a part looks like several senses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onesense.senses.activity import Floats
from onesense.senses.judge import Cosines, Judge
from onesense.senses.sampling import shares
from onesense.senses.set_statistics import best_cut, two_means

THRESHOLD = 0.8
# Fewer contexts are outliers and no sense.
_SMALLEST_SENSE = 3


@dataclass(frozen=True, slots=True, eq=False)
class Senses:
    """The senses of one unit.

    Attributes:
        labels: Sense of each context of the sample; the largest sense is 0, [contexts].
        shares: Of the activation, largest first, [senses].
        several: How much all contexts together look like a union of two senses, from 0 to 1.
        separation: Mean cosine of contexts of the same sense minus that of contexts of different ones; NaN for
            one sense.
    """

    labels: NDArray[np.int64]
    shares: NDArray[np.float64]
    several: float
    separation: float

    @property
    def number(self) -> int:
        """How many senses."""
        return len(self.shares)

    @property
    def effective(self) -> float:
        """Effective number of senses: exp of the entropy of the shares, from 1 to ``number``."""
        return float(np.exp(-(self.shares * np.log(self.shares)).sum()))


def partition(
    cosines: Cosines, values: Floats, judge: Judge, *, threshold: float = THRESHOLD
) -> Senses | None:
    """The senses of one unit; see ``partition_all``."""
    return partition_all([cosines], [values], judge, threshold=threshold)[0]


def partition_all(
    sets: Sequence[Cosines], values: Sequence[Floats], judge: Judge, *, threshold: float = THRESHOLD
) -> list[Senses | None]:
    """The senses of several units.

    A set of contexts that the judge takes for a union is cut by 2-means over the mean of the views' cosines, and
    both parts are judged again. A part of fewer than three contexts is no sense: then the set stays whole.

    Args:
        sets: Cosines of each unit's contexts, [views, contexts, contexts], in random order.
        values: The unit's latent at each context, above 0.
        judge: Who says whether a set is one sense.
        threshold: Above which it is several.

    Returns:
        For each unit its senses, or None where it has too few contexts to judge.
    """
    labels = [np.zeros(len(one), np.int64) for one in values]
    found: list[float] = [float("nan")] * len(sets)
    open_parts = [(unit, np.arange(len(one))) for unit, one in enumerate(values) if judge.size_for(len(one))]
    whole = True
    while open_parts:
        judged = judge.several([sets[unit][:, part[:, None], part] for unit, part in open_parts])
        following = []
        for (unit, part), several in zip(open_parts, judged, strict=True):
            if whole:
                found[unit] = float(several)
            if several <= threshold:
                continue
            second = _cut(sets[unit][:, part[:, None], part])
            if min(second.sum(), (~second).sum()) < _SMALLEST_SENSE:
                continue
            labels[unit][part[second]] = labels[unit].max() + 1
            following += [(unit, half) for half in (part[~second], part[second]) if judge.size_for(len(half))]
        open_parts, whole = following, False
    return [
        None if np.isnan(several) else _senses(cosines, value, label, several)
        for cosines, value, label, several in zip(sets, values, labels, found, strict=True)
    ]


def _cut(cosines: Cosines) -> NDArray[np.bool_]:
    """Who is in the second half, [contexts]."""
    mean = cosines.mean(axis=0)
    centring = np.eye(len(mean)) - 1 / len(mean)
    component = np.linalg.eigh(centring @ mean @ centring)[1][:, -1]
    halves = two_means(mean[None], best_cut(component[None])[1])[0]
    return np.asarray(halves > 0)


def _senses(cosines: Cosines, values: Floats, labels: NDArray[np.int64], several: float) -> Senses:
    found = shares(values, labels, int(labels.max()) + 1)
    order = np.argsort(-found, kind="stable")
    labels = np.argsort(order, kind="stable")[labels]
    separation = float("nan")
    if len(order) > 1:
        mean = cosines.mean(axis=0)
        same = labels[:, None] == labels
        pairs = ~np.eye(len(labels), dtype=bool)
        separation = float(mean[same & pairs].mean() - mean[~same].mean())
    return Senses(labels, found[order], several, separation)
