"""Two sets of units compared: by how much more often one has several senses."""

from __future__ import annotations

from typing import NamedTuple

from scipy.stats import binomtest

from onesense.senses.sense_table import SenseTable


class ShareDifference(NamedTuple):
    """A difference of two shares with its 95 % interval.

    Attributes:
        value: Share of units with more than one sense, the first set's minus the second's; NaN where a set has no
            unit with a number.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def share_difference(one: SenseTable, other: SenseTable) -> ShareDifference:
    """How much larger the share of polysemantic units is in one set than in another.

    The interval is Newcombe's (1998, method 10), from Wilson's intervals of both shares; units are independent.

    Args:
        one: A set.
        other: Another.
    """
    if not one.known.any() or not other.known.any():
        return ShareDifference(float("nan"), float("nan"), float("nan"))
    (first, low, high), (second, below, above) = (_share(one), _share(other))
    value = first - second
    return ShareDifference(
        value,
        value - ((first - low) ** 2 + (above - second) ** 2) ** 0.5,
        value + ((high - first) ** 2 + (second - below) ** 2) ** 0.5,
    )


def _share(table: SenseTable) -> tuple[float, float, float]:
    known = table.number[table.known]
    found = binomtest(int((known > 1).sum()), len(known))
    interval = found.proportion_ci(method="wilson")
    return float(found.statistic), float(interval.low), float(interval.high)
