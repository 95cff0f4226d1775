"""How many units have how many senses, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from onesense.explain.scores.metrics import Interval, share
from onesense.senses.judge import MOST_SENSES


class Share(NamedTuple):
    """Some of the units of a set.

    Attributes:
        title: Which: ``2 senses``.
        units: How many.
        interval: Their share among those with a number, with its 95 % interval (Wilson).
    """

    title: str
    units: int
    interval: Interval


class SetOfUnits(NamedTuple):
    """The units of a set.

    Attributes:
        name: Such as ``features``.
        units: How many.
        known: Those with a number of senses.
        several: Those with more than one; None where no number is known.
        shares: Those with 1, 2 … senses; empty where no number is known.
    """

    name: str
    units: int
    known: int
    several: Share | None
    shares: list[Share]


def distribution(counted: Mapping[str, Mapping[int | None, int]], order: Sequence[str]) -> list[SetOfUnits]:
    """The sets of a run.

    Args:
        counted: How many units have how many senses, by set; None where nobody knows.
        order: Sets that come first.
    """
    names = [*(name for name in order if name in counted), *(name for name in counted if name not in order)]
    most = max(
        (number for numbers in counted.values() for number in numbers if number is not None), default=0
    )
    return [_set(name, counted[name], most) for name in names]


def _set(name: str, numbers: Mapping[int | None, int], most: int) -> SetOfUnits:
    units = sum(numbers.values())
    known = {number: count for number, count in numbers.items() if number is not None}
    total = sum(known.values())
    if not total:
        return SetOfUnits(name, units, 0, None, [])
    several = sum(count for number, count in known.items() if number > 1)
    shares = [
        Share(_title(number), known.get(number, 0), share(known.get(number, 0), total))
        for number in range(1, most + 1)
    ]
    return SetOfUnits(name, units, total, Share("more than one", several, share(several, total)), shares)


def _title(number: int) -> str:
    if number == 1:
        return "1 sense"
    return f"{number} senses" if number < MOST_SENSES else f"{number} or more"
