"""The picture of how many senses units have, as inline SVG.

Across, positions are percentages, so the picture stretches with its box while bars and letters keep their height.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from onesense.web.sense_distribution import SetOfUnits, Share

_LEFT, _RIGHT = 27.0, 86.0
_TITLE, _BAR, _GAP = 22, 18, 8
_AXIS = 26
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def picture(sets: Sequence[SetOfUnits]) -> Markup | None:
    """Shares of units by their number of senses, a bar for each set; None where nothing is known.

    Args:
        sets: The sets, those to compare with first.
    """
    drawn = [one for one in sets if one.several is not None]
    if not drawn:
        return None
    groups = [[one.several for one in drawn], *zip(*(one.shares for one in drawn), strict=True)]
    height = len(groups) * (_TITLE + _BAR * len(drawn) + _GAP) + _AXIS
    parts, y = _grid(height), 0
    for shares in groups:
        known = [one for one in shares if one is not None]
        parts.append(_text(0, y + 15, "start", known[0].title, "name"))
        y += _TITLE
        for place, (one, found) in enumerate(zip(drawn, known, strict=True)):
            parts.append(_bar(one.name, found, place, y))
            y += _BAR
        y += _GAP
    words = "; ".join(f"{one.name}: {_in_words(one)}" for one in drawn)
    opening = Markup('<svg class="distribution" width="100%" height="{}" role="img" aria-label="{}">').format(
        height, f"Share of units by their number of senses. {words}."
    )
    return opening + Markup("").join(parts) + Markup("</svg>")


def percent(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.1f} %"


def _in_words(one: SetOfUnits) -> str:
    return ", ".join(f"{found.title} {percent(found.interval.value)}" for found in one.shares)


def _bar(name: str, found: Share, place: int, y: int) -> Markup:
    value, low, high = (_across(x) for x in found.interval)
    middle = y + _BAR / 2
    told = (
        f"{name}, {found.title}: {found.units:,} units, {percent(found.interval.value)} "
        f"[{percent(found.interval.low)}, {percent(found.interval.high)}]"
    )
    return Markup(
        '<g class="set-{place}"><title>{told}</title>{label}'
        '<rect x="{left}%" y="{top}" width="{width}%" height="{tall}"/>'
        '<line class="whisker" x1="{low}%" x2="{high}%" y1="{middle}" y2="{middle}"/>{value}</g>'
    ).format(
        place=place % 4,
        told=told,
        label=_text(_LEFT - 1.5, middle + 4, "end", name),
        left=_digits(_LEFT),
        top=y + 3,
        width=_digits(max(value - _LEFT, 0.15)),
        tall=_BAR - 6,
        low=_digits(low),
        high=_digits(high),
        middle=_digits(middle),
        value=_text(high + 1, middle + 4, "start", percent(found.interval.value), "value"),
    )


def _grid(height: int) -> list[Markup]:
    parts = []
    bottom = height - _AXIS
    for tick in _TICKS:
        x = _across(tick)
        parts.append(
            Markup('<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="{bottom}"/>').format(
                x=_digits(x), bottom=bottom
            )
        )
        parts.append(_text(x, bottom + 16, "middle", f"{100 * tick:.0f} %"))
    return parts


def _across(value: float) -> float:
    return _LEFT + min(max(value, 0.0), 1.0) * (_RIGHT - _LEFT)


def _text(x: float, y: float, anchor: str, text: str, css: str = "label") -> Markup:
    return Markup('<text class="{}" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
        css, _digits(x), _digits(y), anchor, escape(text)
    )


def _digits(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
