"""The picture of a measurement: how many senses units of each kind have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onesense.senses.sense_table import SenseTable
from onesense.store.atomic import atomic_path

# Okabe and Ito's colours, which colour-blind readers tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")


def draw_senses(tables: Mapping[str, SenseTable], target: Path, title: str) -> Path:
    """Draw the distribution over the units of each set.

    Left: how much contexts look like those of several senses, as a cumulative share of units: the lower a line runs,
    the more polysemantic the units. Right: share of units with more than one sense, with its 95 % interval.

    Args:
        tables: By name of the set; sets without a known unit are left out.
        target: PNG file to write.
        title: Above the picture.
    """
    from matplotlib.figure import Figure
    from scipy.stats import binomtest

    shown = {name: table for name, table in tables.items() if table.known.any()}
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for row, (name, table) in enumerate(shown.items()):
        colour = _COLOURS[row % len(_COLOURS)]
        values = np.sort(table.several[table.known])
        left.plot(values, np.arange(1, len(values) + 1) / len(values), color=colour, label=name)
        known = table.number[table.known]
        several = binomtest(int((known > 1).sum()), len(known))
        interval = several.proportion_ci(method="wilson")
        share = several.statistic
        right.barh(row, share, color=colour, height=0.6)
        right.plot([interval.low, interval.high], [row, row], color="black", linewidth=1.5)
        right.text(interval.high + 0.01, row, f"{share:.1%}", va="center", fontsize=9)
    left.set_xlabel("looks like several senses (0: never, 1: surely)")
    left.set_ylabel("share of units up to here")
    left.grid(alpha=0.3)
    if shown:
        left.legend(loc="lower right", fontsize=9)
    right.set_yticks(range(len(shown)), list(shown))
    right.invert_yaxis()
    right.set_xlim(right=min(1.12, right.get_xlim()[1] * 1.25))
    right.set_xlabel("units with more than one sense")
    figure.suptitle(title, fontsize=11)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return target
