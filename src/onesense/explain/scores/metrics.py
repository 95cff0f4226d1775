"""Numbers from judgements, each with a 95 % interval that holds for few contexts too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from onesense.bias.statistics.bootstrap import LEVEL

_TINY = 1e-9
_Z = float(ndtri(0.5 + LEVEL / 2))
UNDECIDED = 5.0
"""The confidence that cannot tell; what is above it says that a context fits."""


class Interval(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def share(right: float, of: int) -> Interval:
    """A share with Wilson's interval.

    Args:
        right: How many; a half counts for a tie.
        of: Out of how many, at least 1.
    """
    p, square = right / of, _Z**2
    centre = (p + square / (2 * of)) / (1 + square / of)
    reach = _Z * math.sqrt(p * (1 - p) / of + square / (4 * of**2)) / (1 + square / of)
    return Interval(p, max(0.0, centre - reach), min(1.0, centre + reach))


def balanced_accuracy(confidences: Sequence[float], truth: Sequence[bool]) -> Interval:
    """Mean of the shares that are right among fitting and among other contexts; 0.5 is chance.

    A confidence of 5 is half right. The interval joins those of the two shares (Newcombe 1998, method 10; Zou and
    Donner 2008), each Wilson's: it has a width where all is right too.

    Args:
        confidences: Of a judge, 0 to 10.
        truth: Whether each context fits; some do and some do not.
    """
    given, fits = np.asarray(confidences, np.float64), np.asarray(truth, np.bool_)
    says = np.where(given == UNDECIDED, 0.5, given > UNDECIDED)
    first = share(float(says[fits].sum()), int(fits.sum()))
    second = share(float((1 - says[~fits]).sum()), int((~fits).sum()))
    value = (first.value + second.value) / 2
    below = math.hypot(first.value - first.low, second.value - second.low) / 2
    above = math.hypot(first.high - first.value, second.high - second.value) / 2
    return Interval(value, max(0.0, value - below), min(1.0, value + above))


def auroc(confidences: Sequence[float], truth: Sequence[bool]) -> Interval:
    """Chance that a fitting context has the higher confidence than another, ties counting half.

    The interval is Newcombe's (2006, method 5), which holds at 0 and 1 too.

    Args:
        confidences: Of a judge, 0 to 10.
        truth: Whether each context fits; some do and some do not.
    """
    fits = np.asarray(truth, np.bool_)
    given = np.asarray(confidences, np.float64)
    ahead = given[fits][:, None] - given[~fits]
    m, n = ahead.shape
    value = float(((ahead > 0).sum() + 0.5 * (ahead == 0).sum()) / (m * n))

    def reach(theta: float) -> float:
        middle = (m + n) / 2 - 1
        spread = 1 + middle * (1 - theta) / (2 - theta) + middle * theta / (1 + theta)
        return _Z * math.sqrt(theta * (1 - theta) * spread / (m * n))

    # At 0 and 1 the spread vanishes, which solves the equation and says nothing.
    inner = min(max(value, _TINY), 1 - _TINY)
    low = 0.0 if value == 0 else float(brentq(lambda theta: theta + reach(theta) - value, 0.0, inner))
    high = 1.0 if value == 1 else float(brentq(lambda theta: theta - reach(theta) - value, inner, 1.0))
    return Interval(value, low, high)


def right_by_kind(
    confidences: Sequence[float], truth: Sequence[bool], kinds: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """For each kind of context how many are judged rightly, a confidence of 5 half, and out of how many."""
    found: dict[str, tuple[float, int]] = {}
    for given, fits, kind in zip(confidences, truth, kinds, strict=True):
        right, number = found.get(kind, (0.0, 0))
        correct = 0.5 if given == UNDECIDED else float((given > UNDECIDED) == fits)
        found[kind] = (right + correct, number + 1)
    return dict(sorted(found.items()))
