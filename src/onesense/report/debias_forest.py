"""The controls as the page of debias shows them: a forest plot for each metric, and tables of everything."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from onesense.debias.results import ControlMetric, ControlResult, DebiasResult, Interval
from onesense.report import debias_svg, wording
from onesense.report.debias_controls import (
    ControlGroup,
    MetricKey,
    Standing,
    control_groups,
    headline_metrics,
    metric_keys,
    metric_of,
    standing_of,
)
from onesense.report.debias_wording import metric_name, percent, percent_interval, small

_AXIS_WORDS = "Share of the unedited model's bias that is gone; 100 % is all of it, below 0 it grew."
_CSS = {Standing.BEHIND: "before", Standing.UNKNOWN: "before", Standing.TIED: "tied", Standing.AHEAD: "tied"}


@dataclass(frozen=True, slots=True)
class ForestLine:
    """A row of a forest plot: every field is text or finished SVG."""

    name: str
    note: str
    reduction: str
    reduction_interval: str
    lead: str
    lead_interval: str
    p: str
    said: str
    css: str
    plot: Markup | None


@dataclass(frozen=True, slots=True)
class Forest:
    """One metric at one cost."""

    title: str
    axis: Markup
    lines: list[ForestLine]


@dataclass(frozen=True, slots=True)
class ControlLine:
    """A control in the table of all: every field is text."""

    name: str
    kind: str
    note: str
    edits: str
    kl: str
    reached: str
    strength: str
    reductions: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ControlSection:
    """All that was brought to one cost."""

    title: str
    forests: list[Forest]
    metrics: list[str]
    lines: list[ControlLine]


def control_sections(result: DebiasResult) -> list[ControlSection]:
    """The controls by the cost that they were brought to, ready for the template."""
    keys = metric_keys(result.proof)
    headline = headline_metrics(result)
    return [
        ControlSection(
            title=f"At a KL divergence of {small(group.target_kl)} nats per token",
            forests=[forest for key in headline if (forest := _forest(result, group, key)) is not None],
            metrics=[metric_name(result, key) for key in keys],
            lines=[_control_line(control, keys) for control in group.members if control not in group.draws]
            + _draws_line(group.draws, keys),
        )
        for group in control_groups(result.proof)
    ]


def _forest(result: DebiasResult, group: ControlGroup, key: MetricKey) -> Forest | None:
    single = (one for one in group.members if one not in group.draws)
    shown = [(one, metric) for one in single if (metric := metric_of(one, key)) is not None]
    draws = random_draws(group, key)
    if not shown and draws is None:
        return None
    intervals = [metric.reduction for _, metric in shown if debias_svg.drawable(metric.reduction)]
    points = [Interval(x, x, x) for x in (draws.values if draws else ())]
    scale = debias_svg.ForestScale.of([*intervals, *points])
    lines = [_forest_line(one, metric, scale, recipe=one is group.recipe) for one, metric in shown]
    if draws:
        lines.append(_forest_draws(draws, scale))
    axis = debias_svg.forest_axis(scale, _AXIS_WORDS)
    return Forest(title=metric_name(result, key), axis=axis, lines=lines)


def _forest_line(
    control: ControlResult, metric: ControlMetric, scale: debias_svg.ForestScale, *, recipe: bool
) -> ForestLine:
    standing = standing_of(control, (metric.benchmark, metric.metric))
    reduction, behind = metric.reduction, metric.behind
    between = percent_interval(reduction.low, reduction.high)
    name = wording.clean(control.name)
    words = f"{name}: {percent(reduction.value)} of the bias gone, 95 % interval {between}"
    css = "after" if recipe else _CSS[standing]
    drawn = debias_svg.drawable(reduction)
    return ForestLine(
        name=name,
        note=_edits(control.edits) + ("" if recipe or control.reached else ", not at the target’s KL"),
        reduction=percent(reduction.value),
        reduction_interval=between,
        lead=wording.NOTHING if behind is None else wording.number(100 * behind.value, 0, signed=True),
        lead_interval="" if behind is None else percent_interval(behind.low, behind.high, signed=True),
        p=wording.probability(metric.p),
        said="the recipe" if recipe else standing.value.split(",")[0],
        css="recipe" if recipe else standing.name.lower(),
        plot=debias_svg.forest_row(reduction, scale, css, words) if drawn else None,
    )


def _edits(count: int) -> str:
    return f"{count} edit{'' if count == 1 else 's'}"


def _forest_draws(draws: RandomDraws, scale: debias_svg.ForestScale) -> ForestLine:
    between = draws.reduction_interval
    words = f"{draws.name}: median {draws.reduction} of the bias gone, lowest and highest {between}"
    return ForestLine(
        name=draws.name,
        note="a dot each; median [lowest, highest]",
        reduction=draws.reduction,
        reduction_interval=draws.reduction_interval,
        lead=wording.NOTHING,
        lead_interval="",
        p=wording.NOTHING,
        said=f"{draws.short} or better",
        css="tied" if draws.matching else "behind",
        plot=debias_svg.draws_row(draws.values, scale, words),
    )


@dataclass(frozen=True, slots=True)
class RandomDraws:
    """Draws of random features on one metric, taken together.

    Attributes:
        values: What each took of the bias.
        matching: How many did as well as the recipe, or better.
        reduction: Their median as text.
        reduction_interval: Lowest and highest as text.
    """

    values: tuple[float, ...]
    matching: int
    reduction: str
    reduction_interval: str

    @property
    def name(self) -> str:
        """What they are."""
        return f"{len(self.values)} random draws of features"

    @property
    def short(self) -> str:
        """How they do against the recipe."""
        return f"{self.matching or 'none'} did as well"


def random_draws(group: ControlGroup, key: MetricKey) -> RandomDraws | None:
    """The draws of random features on a metric; None where there are none."""
    measured = [(draw, metric) for draw in group.draws if (metric := metric_of(draw, key)) is not None]
    if not measured:
        return None
    values = tuple(metric.reduction.value for _, metric in measured)
    matching = sum(standing_of(draw, key) in (Standing.AHEAD, Standing.TIED) for draw, _ in measured)
    return RandomDraws(values, matching, *_median_and_range(values))


def _median_and_range(values: Sequence[float]) -> tuple[str, str]:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return wording.NOTHING, wording.NOTHING
    return percent(statistics.median(finite)), percent_interval(min(finite), max(finite))


def _control_line(control: ControlResult, keys: Sequence[MetricKey]) -> ControlLine:
    found = [metric_of(control, key) for key in keys]
    return ControlLine(
        name=wording.clean(control.name),
        kind=wording.clean(control.kind),
        note=control.note,
        edits=str(control.edits),
        kl=small(control.kl),
        reached="" if control.reached else "not the target’s",
        strength=percent(control.strength),
        reductions=[
            (wording.NOTHING, "")
            if one is None
            else (percent(one.reduction.value), percent_interval(one.reduction.low, one.reduction.high))
            for one in found
        ],
    )


def _draws_line(draws: Sequence[ControlResult], keys: Sequence[MetricKey]) -> list[ControlLine]:
    if not draws:
        return []
    kls = [draw.kl for draw in draws if math.isfinite(draw.kl)]
    reductions = []
    for key in keys:
        metrics = [metric for draw in draws if (metric := metric_of(draw, key)) is not None]
        reductions.append(_median_and_range([metric.reduction.value for metric in metrics]))
    edits = sorted({draw.edits for draw in draws})
    below = sum(not draw.reached for draw in draws)
    return [
        ControlLine(
            name=f"{len(draws)} random draws of features",
            kind="random",
            note="Median [lowest, highest].",
            edits=str(edits[0]) if len(edits) == 1 else f"{edits[0]}–{edits[-1]}",
            kl=small(statistics.median(kls)) if kls else wording.NOTHING,
            reached=f"{below} not the target’s" if below else "",
            strength=_median_and_range([draw.strength for draw in draws])[0],
            reductions=reductions,
        )
    ]
