"""Plots of a run of debias as inline SVG: the Pareto front, and rows of a forest plot of reductions.

Across, positions are percentages, so a plot stretches with its box while dots, lines and letters keep their
size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import quote

from markupsafe import Markup, escape

from onesense.debias.results import FrontPoint, Interval
from onesense.report.debias_wording import percent, small

ROW_HEIGHT = 30
AXIS_HEIGHT = 30
FRONT_HEIGHT = 320
_EDGE = 4.0
_LEFT, _RIGHT = 13.0, 95.0
_TOP, _BOTTOM = 24.0, FRONT_HEIGHT - 46.0
_DECADE = (1, 2, 5)
_MOST_TICKS = 6
_LABEL_GAP = 13
_LEAST, _MOST = -1.0, 1.5


@dataclass(frozen=True, slots=True)
class ForestScale:
    """From reductions to percentages of a row's width.

    Attributes:
        low: Reduction at the left edge.
        high: Reduction at the right edge.
    """

    low: float
    high: float

    @classmethod
    def of(cls, intervals: Iterable[Interval]) -> ForestScale:
        """The scale on which 0, 1 and all intervals have room; what lies out of bounds stands at the edge."""
        ends = [x for one in intervals for x in (one.value, one.low, one.high) if math.isfinite(x)]
        low, high = min([0.0, *ends]), max([1.0, *ends])
        return cls(max(low - 0.05, _LEAST), min(high + 0.05, _MOST))

    def percent(self, x: float) -> float:
        """Position of a reduction."""
        bounded = min(max(x, self.low), self.high)
        return _EDGE + (bounded - self.low) / (self.high - self.low) * (100 - 2 * _EDGE)

    @property
    def ticks(self) -> list[float]:
        """Reductions that the axis names."""
        step = 0.25 if self.high - self.low <= 1.3 else 0.5
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [k * step for k in range(first, last + 1)]


def drawable(interval: Interval) -> bool:
    """Whether all three numbers are finite."""
    return all(map(math.isfinite, (interval.value, interval.low, interval.high)))


def forest_row(interval: Interval, scale: ForestScale, css: str, description: str) -> Markup:
    """A reduction with its interval.

    Args:
        interval: What is drawn.
        scale: The axis.
        css: ``after`` for the recipe, ``before`` for a control that did less, ``tied`` for one that did not.
        description: What the row shows, in words.
    """
    low, value, high = (_digits(scale.percent(x)) for x in (interval.low, interval.value, interval.high))
    mark = Markup(
        '<g class="{}"><line class="whisker" x1="{}%" x2="{}%" y1="50%" y2="50%"/>'
        '<circle cx="{}%" cy="50%" r="4"/></g>'
    ).format(css, low, high, value)
    return _svg([_zero(scale), mark], ROW_HEIGHT, "forest-row", "Plot", description)


def draws_row(values: Sequence[float], scale: ForestScale, description: str) -> Markup:
    """Many reductions as a strip of dots, one for each draw."""
    dots = [
        Markup('<circle class="draw" cx="{}%" cy="50%" r="3.5"/>').format(_digits(scale.percent(value)))
        for value in values
        if math.isfinite(value)
    ]
    return _svg([_zero(scale), *dots], ROW_HEIGHT, "forest-row", "Plot", description)


def forest_axis(scale: ForestScale, description: str) -> Markup:
    """The axis above the rows."""
    parts = []
    for tick in scale.ticks:
        x = scale.percent(tick)
        parts.append(_line(x, AXIS_HEIGHT - 5, x, AXIS_HEIGHT, "tick"))
        parts.append(_text(x, AXIS_HEIGHT - 9, "middle", percent(tick)))
    return _svg(parts, AXIS_HEIGHT, "axis", "Axis", description)


def recipe_link(recipe: str) -> str:
    """The address of a recipe's file, relative to the page; no text in it can name a scheme or a host."""
    return "./" + quote(recipe.encode("utf-8", errors="replace"), safe="/")


def front(
    points: Sequence[FrontPoint], chosen: int, link: Callable[[str], str | None] = recipe_link
) -> Markup:
    """The Pareto front: KL divergence per token across (logarithmic), spread left upwards from 0.

    Each point has its number, its values as a tooltip, and a link to its recipe.

    Args:
        points: The front.
        chosen: Which of them was chosen.
        link: The address of a recipe, by its file; a point without one is no link.
    """
    placed = [(k, point) for k, point in enumerate(points) if _placeable(point)]
    axes = _FrontAxes.of([point for _, point in placed])
    order = sorted((point.kl, point.spread) for _, point in placed)
    corners = [(axes.x(kl), axes.y(spread)) for kl, spread in order]
    path = [_line(a[0], a[1], b[0], b[1], "joint") for a, b in pairwise(corners)]
    marks = [_front_point(k, point, axes, link(point.recipe), chosen=k == chosen) for k, point in placed]
    words = "; ".join(f"{k + 1}: {point_in_words(point)}" for k, point in placed)
    description = (
        f"Pareto front, spread left against KL divergence per token. {words or 'No point can be drawn'}."
    )
    return _svg([*axes.drawn(), *path, *marks], FRONT_HEIGHT, "front", "Pareto front", description)


def point_in_words(point: FrontPoint) -> str:
    """What a recipe of the front reaches, in one phrase."""
    return (
        f"KL {small(point.kl)}, spread left {percent(point.spread)}, facts kept {percent(point.facts)}, "
        f"{point.features} features"
    )


def _placeable(point: FrontPoint) -> bool:
    return math.isfinite(point.kl) and point.kl > 0 and math.isfinite(point.spread) and point.spread >= 0


def _front_point(
    index: int, point: FrontPoint, axes: _FrontAxes, href: str | None, *, chosen: bool
) -> Markup:
    x, y = axes.x(point.kl), axes.y(point.spread)
    label = f"{index + 1}, chosen" if chosen else f"{index + 1}"
    ring = (
        Markup('<circle class="ring" cx="{}%" cy="{}" r="9"/>').format(_digits(x), _digits(y))
        if chosen
        else ""
    )
    opening = Markup("<g>") if href is None else Markup('<a href="{}">').format(href)
    return Markup(
        '{opening}<title>{words}</title>{ring}<circle class="{css}" cx="{x}%" cy="{y}" r="5"/>{text}{closing}'
    ).format(
        opening=opening,
        closing=Markup("</g>" if href is None else "</a>"),
        words=f"Recipe {label}: {point_in_words(point)}",
        ring=ring,
        css="chosen" if chosen else "point",
        x=_digits(x),
        y=_digits(y),
        text=_text(x, y - _LABEL_GAP, "middle", label, "name"),
    )


@dataclass(frozen=True, slots=True)
class _FrontAxes:
    """From KL divergence (logarithm) and spread to positions."""

    least: float
    most: float
    top: float

    @classmethod
    def of(cls, points: Sequence[FrontPoint]) -> _FrontAxes:
        logs = [math.log10(point.kl) for point in points] or [-3.0, -2.0]
        pad = max(0.08 * (max(logs) - min(logs)), 0.15)
        top = max([1.0, *(point.spread for point in points)])
        return cls(min(logs) - pad, max(logs) + pad, top)

    def x(self, kl: float) -> float:
        share = (math.log10(kl) - self.least) / (self.most - self.least)
        return _LEFT + share * (_RIGHT - _LEFT)

    def y(self, spread: float) -> float:
        return _BOTTOM - spread / self.top * (_BOTTOM - _TOP)

    def drawn(self) -> list[Markup]:
        parts = [_line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "zero"), _line(_LEFT, _TOP, _LEFT, _BOTTOM, "zero")]
        step = next(step for step in (0.25, 0.5, 1, 10, 100, math.inf) if self.top / step <= _MOST_TICKS)
        for k in range(math.floor(self.top / step) + 1 if math.isfinite(step) else 0):
            y = self.y(k * step)
            parts.append(_line(_LEFT, y, _RIGHT, y, "grid"))
            parts.append(_text(_LEFT - 1, y + 4, "end", percent(k * step)))
        for tick in self._kl_ticks():
            x = self.x(tick)
            parts.append(_line(x, _BOTTOM, x, _BOTTOM + 5, "tick"))
            parts.append(_text(x, _BOTTOM + 18, "middle", f"{tick:g}"))
        middle = (_LEFT + _RIGHT) / 2
        parts.append(_text(middle, FRONT_HEIGHT - 8, "middle", "KL divergence per token, nats (logarithmic)"))
        parts.append(_text(0.5, 11, "start", "Spread left"))
        return parts

    def _kl_ticks(self) -> list[float]:
        first, last = math.floor(self.least), math.ceil(self.most)
        for steps in (_DECADE, (1,)):
            ticks = [s * 10.0**k for k in range(first, last + 1) for s in steps]
            inside = [tick for tick in ticks if self.least <= math.log10(tick) <= self.most]
            if len(inside) <= _MOST_TICKS:
                return inside
        return inside[:: math.ceil(len(inside) / _MOST_TICKS)]


def _svg(parts: Sequence[Markup], height: int, css: str, title: str, description: str) -> Markup:
    # a drawing with links in it is a group to a screen reader, not one image
    role = "group" if css == "front" else "img"
    opening = Markup('<svg class="{}" width="100%" height="{}" role="{}" aria-label="{}">').format(
        css, height, role, description
    )
    head = Markup("<title>{}</title><desc>{}</desc>").format(title, description)
    return opening + head + Markup("").join(parts) + Markup("</svg>")


def _zero(scale: ForestScale) -> Markup:
    x = _digits(scale.percent(0))
    return Markup('<line class="zero" x1="{}%" x2="{}%" y1="0" y2="100%"/>').format(x, x)


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    return Markup('<line class="{}" x1="{}%" y1="{}" x2="{}%" y2="{}"/>').format(
        css, _digits(x1), _digits(y1), _digits(x2), _digits(y2)
    )


def _text(x: float, y: float, anchor: str, text: str, css: str = "label") -> Markup:
    return Markup('<text class="{}" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
        css, _digits(x), _digits(y), anchor, escape(text)
    )


def _digits(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
