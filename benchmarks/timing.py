"""Time several ways to do the same thing, interleaved, and compare them as ratios.

A busy or throttled machine slows all sides alike when they take turns, so a ratio holds where seconds do not.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Side:
    """One way to do the work.

    Attributes:
        name: What the table calls it.
        run: Does the work once.
        share: Part of the whole work that ``run`` does; its time is divided by this (1/60 for a sample).
    """

    name: str
    run: Callable[[], object]
    share: float = 1.0


@dataclass(frozen=True)
class Ratio:
    """Time of one side over that of another, and what is wanted of it."""

    name: str
    numerator: str
    denominator: str
    want: Literal["at most", "at least"]
    limit: float

    def holds(self, value: float) -> bool:
        """Tell whether ``value`` is as wanted."""
        return value <= self.limit if self.want == "at most" else value >= self.limit


def interleave(sides: Sequence[Side], *, rounds: int, warm_up: bool = True) -> dict[str, list[float]]:
    """Let every side run once per round, in turn.

    Args:
        sides: The ways to do the work.
        rounds: Times that each side is measured.
        warm_up: Run each side once before, unmeasured.

    Returns:
        For each side the seconds that the whole work takes, one number per round.
    """
    if warm_up:
        for side in sides:
            side.run()
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(rounds):
        order = sides if turn % 2 == 0 else sides[::-1]  # neither side always runs on the caches of the other
        for side in order:
            start = time.perf_counter()
            side.run()
            seconds[side.name].append((time.perf_counter() - start) / side.share)
    return seconds


def ratio_values(seconds: Mapping[str, Sequence[float]], ratios: Sequence[Ratio]) -> dict[str, float]:
    """Take each ratio within its round, and of these the median."""
    return {
        ratio.name: statistics.median(
            above / below
            for above, below in zip(seconds[ratio.numerator], seconds[ratio.denominator], strict=True)
        )
        for ratio in ratios
    }


def report(
    title: str,
    seconds: Mapping[str, Sequence[float]],
    ratios: Sequence[Ratio],
    *,
    notes: Sequence[str] = (),
    extra: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Print times and ratios as tables, and as the last line all ratios as JSON.

    Args:
        title: What was measured, with its size.
        seconds: As :func:`interleave` returns them.
        ratios: The comparisons.
        notes: Lines to print below the tables, such as which sides are estimates.
        extra: Other figures for the JSON line, such as megabytes.

    Returns:
        What the JSON line holds.
    """
    values = ratio_values(seconds, ratios)
    width = max(len(name) for name in (*seconds, *values))
    print(title)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n")
    print(f"{'':{width}}  {'median s':>10}  {'least s':>10}  {'most s':>10}")
    for name, times in seconds.items():
        print(f"{name:{width}}  {statistics.median(times):10.3f}  {min(times):10.3f}  {max(times):10.3f}")
    print(f"\n{'':{width}}  {'ratio':>10}  wanted")
    for ratio in ratios:
        value = values[ratio.name]
        verdict = "yes" if ratio.holds(value) else "NO"
        print(f"{ratio.name:{width}}  {value:10.3f}  {ratio.want} {ratio.limit:g}: {verdict}")
    for note in notes:
        print(note)
    figures = {**values, **(extra or {})}
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    return figures
