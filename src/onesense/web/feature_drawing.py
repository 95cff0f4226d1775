"""Pictures of a feature as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from onesense.web.pages import number

_WIDTH, _HEIGHT, _BELOW = 320.0, 90.0, 16.0


def activation_histogram(found: Mapping[str, Sequence[float]]) -> Markup:
    """Firings by activation; the axis is logarithmic, the heights are roots, so that rare strong ones show.

    Args:
        found: ``edges`` and ``counts``; empty for a feature that never fired.
    """
    edges, counts = list(found["edges"]), list(found["counts"])
    if not counts:
        return Markup("")
    first, span = math.log(edges[0]), math.log(edges[-1]) - math.log(edges[0])
    tallest = math.sqrt(max(counts))

    def across(value: float) -> float:
        return _WIDTH * (math.log(value) - first) / span

    bars = Markup("").join(
        Markup(
            '<rect class="bar" x="{}" y="{}" width="{}" height="{}"><title>{} to {}: {}</title></rect>'
        ).format(
            _digits(across(low)),
            _digits(_HEIGHT * (1 - math.sqrt(count) / tallest)),
            _digits(max(across(high) - across(low) - 0.5, 0.5)),
            _digits(_HEIGHT * math.sqrt(count) / tallest),
            number(low),
            number(high),
            f"{count:,.0f}",
        )
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    )
    words = (
        f"Histogram of {sum(counts):,.0f} firings, from {number(edges[0])} to {number(edges[-1])}; "
        f"most often between {number(edges[counts.index(max(counts))])} "
        f"and {number(edges[counts.index(max(counts)) + 1])}."
    )
    ends = Markup('<text x="0" y="{y}">{}</text><text x="{w}" y="{y}" text-anchor="end">{}</text>').format(
        number(edges[0]), number(edges[-1]), y=_HEIGHT + _BELOW - 3, w=_WIDTH
    )
    return Markup(
        '<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="{}">{}<line class="base" x1="0" x2="{}"'
        ' y1="{}" y2="{}"/>{}</svg>'
    ).format(_WIDTH, _HEIGHT + _BELOW, words, bars, _WIDTH, _HEIGHT, _HEIGHT, ends)


def _digits(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
