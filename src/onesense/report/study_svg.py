"""The figure of a study as inline SVG: one panel a set, bias for its cost against how much units look like several.

Across, positions are percentages, so a panel stretches with its box while dots, lines and letters keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from onesense.report import wording
from onesense.study.bins import Bin

HEIGHT = 250
_LEFT, _RIGHT = 12.0, 96.0
_TOP, _BOTTOM = 24.0, HEIGHT - 46.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_MIDDLE = 50.0
_LEAST_REACH = 10.0


def reach_of(sets: Sequence[Sequence[Bin]]) -> float:
    """How far from the middle all panels reach, in percent, so that they can be compared."""
    ends = [
        abs(x - _MIDDLE)
        for bins in sets
        for one in bins
        for x in (one.rank.value, one.rank.low, one.rank.high)
        if math.isfinite(x)
    ]
    return min(max([_LEAST_REACH, *ends]) * 1.1, _MIDDLE)


def panel(name: str, bins: Sequence[Bin], reach: float) -> Markup:
    """Mean place in bias per √KL upwards against mean `several` across, with 95 % intervals.

    Args:
        name: Name of the set.
        bins: Its bins.
        reach: See ``reach_of``.
    """

    def height(rank: float) -> float:
        bounded = min(max(rank, _MIDDLE - reach), _MIDDLE + reach)
        return _BOTTOM - (bounded - _MIDDLE + reach) / (2 * reach) * (_BOTTOM - _TOP)

    drawn = [one for one in bins if math.isfinite(one.rank.value)]
    corners = [(_across(one.several), height(one.rank.value)) for one in drawn]
    parts = _axes(reach, height)
    parts += [_line(a[0], a[1], b[0], b[1], "joint") for a, b in pairwise(corners)]
    for one, (x, y) in zip(drawn, corners, strict=True):
        whisker = ""
        if math.isfinite(one.rank.low) and math.isfinite(one.rank.high):
            whisker = _line(x, height(one.rank.low), x, height(one.rank.high), "whisker")
        parts.append(
            Markup('<g class="after"><title>{}</title>{}<circle cx="{}%" cy="{}" r="4"/></g>').format(
                _in_words(one), whisker, _digits(x), _digits(y)
            )
        )
    words = "; ".join(_in_words(one) for one in drawn) or "no bin can be drawn"
    description = f"{wording.clean(name)}: {words}."
    opening = Markup('<svg class="panel" width="100%" height="{}" role="img" aria-label="{}">').format(
        HEIGHT, description
    )
    return opening + Markup("<title>{}</title>").format("Plot") + Markup("").join(parts) + Markup("</svg>")


def _in_words(one: Bin) -> str:
    between = wording.interval(one.rank.low, one.rank.high, 0)
    return (
        f"{one.units} units at {one.several:.2f}: place {wording.number(one.rank.value, 0)} of 100 {between}"
    )


def _axes(reach: float, at: Callable[[float], float]) -> list[Markup]:
    parts = [
        _line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "zero"),
        _line(_LEFT, at(_MIDDLE), _RIGHT, at(_MIDDLE), "joint"),
    ]
    for rank in (_MIDDLE - reach, _MIDDLE, _MIDDLE + reach):
        parts.append(_text(_LEFT - 1.5, at(rank) + 4, "end", f"{rank:.0f}"))
    for tick in _TICKS:
        x = _across(tick)
        parts.append(_line(x, _BOTTOM, x, _BOTTOM + 5, "tick"))
        parts.append(_text(x, _BOTTOM + 18, "middle", f"{tick:g}"))
    parts.append(_text(_LEFT, HEIGHT - 8, "start", "one sense"))
    parts.append(_text(_RIGHT, HEIGHT - 8, "end", "several senses"))
    return parts


def _across(several: float) -> float:
    return _LEFT + min(max(several, 0.0), 1.0) * (_RIGHT - _LEFT)


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    return Markup('<line class="{}" x1="{}%" y1="{}" x2="{}%" y2="{}"/>').format(
        css, _digits(x1), _digits(y1), _digits(x2), _digits(y2)
    )


def _text(x: float, y: float, anchor: str, text: str) -> Markup:
    return Markup('<text class="label" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
        _digits(x), _digits(y), anchor, escape(text)
    )


def _digits(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
