"""An audit as one page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from onesense.bias.results import AuditResult, BenchmarkResult, Change, Estimate, MetricResult
from onesense.report import svg, wording
from onesense.report.pages import encodable, page_environment
from onesense.report.wording import Group, Row

_GROUP_WORDS: dict[Group, tuple[str, str]] = {
    Group.HELD_OUT: (
        "held-out",
        "Sets that nobody chose anything by. These decide whether the recipe works.",
    ),
    Group.TUNING: (
        "tuning",
        "Sets that features were found or recipes tuned on. They flatter a recipe and prove nothing.",
    ),
    Group.GUARDS: (
        "guards",
        "What must not break: language, knowledge, facts about gender, other associations.",
    ),
}
_VALUE_AXIS = (
    "Distance from parity, in multiples of the smallest distance that the set finds with power 0.8; "
    "compressed further out. Line at 0: parity. Grey band: too close to parity for the set to tell."
)
_CHANGE_AXIS = (
    "Change towards the best value, in multiples of the smallest change that the set finds with power 0.8; "
    "compressed further out. Line at 0: no change. Grey band: too small for the set to see."
)


@dataclass(frozen=True, slots=True)
class _Line:
    """A metric as the template shows it: every field is text or finished SVG."""

    set: str
    title: str
    meaning: str
    unit: str
    best: str
    before: str
    before_interval: str
    after: str
    after_interval: str
    difference: str
    difference_interval: str
    detectable: str
    p: str
    p_note: str
    verdict: str
    css: str
    items: str
    chance: str
    plot: Markup | None
    anchor: str


@dataclass(frozen=True, slots=True)
class _Table:
    """The metrics of a group."""

    title: str
    css: str
    about: str
    lines: list[_Line]
    axis: Markup | None
    axis_words: str
    not_drawn: list[str]


@dataclass(frozen=True, slots=True)
class _Section:
    """One benchmark."""

    benchmark: BenchmarkResult
    anchor: str
    use: str
    lines: list[_Line]
    columns: list[str]
    examples: list[list[str]]
    all_items: str | None


def audit_page(result: AuditResult) -> str:
    """The whole audit as a standalone page of HTML.

    It loads nothing and runs nothing: style and plots are inline, and its content security policy refuses
    the rest. Names, texts and notes are escaped.
    """
    page = (
        page_environment()
        .get_template("audit.html.j2")
        .render(
            result=result,
            title=f"Gender-bias audit of {wording.clean(result.model)}",
            body=audit_body(result),
        )
    )
    return encodable(page)


def audit_body(result: AuditResult, items: Callable[[str], str | None] | None = None) -> Markup:
    """What the page of an audit has between its heading and its footer, for this page and for others.

    The style is that of ``audit.css``. Names, texts and notes are escaped.

    Args:
        result: The audit.
        items: The address of all items of a benchmark, by its key; None where there is none.
    """
    anchors = {id(benchmark): f"set-{index}" for index, benchmark in enumerate(result.benchmarks, start=1)}
    grouped = wording.headline_rows(result)
    return Markup(
        page_environment()
        .get_template("audit_body.html.j2")
        .render(
            result=result,
            compared=result.after is not None,
            subject=wording.subject(result),
            findings=wording.findings(result),
            tables=[_table(group, rows, result, anchors) for group, rows in grouped.items()],
            sections=[
                _section(benchmark, anchors[id(benchmark)], None if items is None else items(benchmark.key))
                for benchmark in result.benchmarks
            ],
            skipped=wording.skipped_by_reason(result),
            splits=wording.SPLIT_USES,
            before=wording.variant(result.before),
            after=None if result.after is None else wording.variant(result.after),
        )
    )


def _table(group: Group, rows: Sequence[Row], result: AuditResult, anchors: Mapping[int, str]) -> _Table:
    compared = result.after is not None
    draw_change = group is Group.GUARDS
    marks = [_change_marks(row.metric) if draw_change else _value_marks(row.metric) for row in rows]
    drawable = [[mark for mark in row if mark.drawable] for row in marks]
    scale = svg.Scale.of(mark for row in drawable for mark in row)
    plotted = any(drawable)
    lines = [
        _line(
            row, anchors[id(row.benchmark)], _plot(row, drawn, scale, change=draw_change) if drawn else None
        )
        for row, drawn in zip(rows, drawable, strict=True)
    ]
    css, about = _GROUP_WORDS[group]
    words = _CHANGE_AXIS if draw_change else _VALUE_AXIS
    labels = ("worse", "no change", "better") if draw_change else ("below", "parity", "above")
    return _Table(
        title=str(group),
        css=css,
        about=about if compared or group is not Group.HELD_OUT else _GROUP_ABOUT_ALONE,
        lines=lines,
        axis=svg.axis(scale, labels, words) if plotted else None,
        axis_words=words,
        not_drawn=[row.name for row, drawn in zip(rows, drawable, strict=True) if plotted and not drawn],
    )


_GROUP_ABOUT_ALONE = "Sets that nobody chose anything by."


def _value_marks(metric: MetricResult) -> list[svg.Mark]:
    """Before and after as distances from parity; nothing for a metric without parity."""
    parity, unit = metric.parity, metric.detectable
    if parity is None or not (math.isfinite(unit) and unit > 0):
        return []

    def mark(estimate: Estimate, css: str) -> svg.Mark:
        value, low, high = ((x - parity) / unit for x in (estimate.value, estimate.low, estimate.high))
        return svg.Mark(value, low, high, css)

    marks = [mark(metric.before, "before")]
    return marks if metric.after is None else [*marks, mark(metric.after, "after")]


def _change_marks(metric: MetricResult) -> list[svg.Mark]:
    """The change of the distance from the best value, turned so that better is on the right."""
    change = metric.change
    if change is None or not (math.isfinite(change.detectable) and change.detectable > 0):
        return []
    value, low, high = (
        -x / change.detectable + 0.0 for x in (change.distance, change.distance_high, change.distance_low)
    )
    return [svg.Mark(value, low, high, "change")]


def _plot(row: Row, marks: Sequence[svg.Mark], scale: svg.Scale, *, change: bool) -> Markup:
    metric = row.metric
    if change:
        words = f"change {_difference_in_words(metric.change, metric)}; {metric.verdict.value}"
    else:
        parts = [wording.estimate_in_words("before" if metric.after else "value", metric.before, metric)]
        if metric.after is not None:
            parts.append(wording.estimate_in_words("after", metric.after, metric))
        words = f"{'; '.join(parts)}; {wording.best_in_words(metric)}; {metric.verdict.value}"
    return svg.strip(marks, scale, f"{row.name}: {words}")


def _difference_in_words(change: Change | None, metric: MetricResult) -> str:
    if change is None:
        return "not measured"
    unit = f" {wording.clean(metric.unit)}" if metric.unit else ""
    between = wording.interval(change.low, change.high, metric.decimals, signed=True)
    return f"{wording.number(change.difference, metric.decimals, signed=True)}{unit}, 95 % interval {between}"


def _line(row: Row, anchor: str, plot: Markup | None = None) -> _Line:
    metric, digits = row.metric, row.metric.decimals
    after, change = metric.after, metric.change
    holm = change is not None and change.p_holm is not None and row.group is Group.HELD_OUT
    return _Line(
        set=wording.clean(row.benchmark.title),
        title=wording.clean(metric.title),
        meaning=metric.meaning,
        unit="" if metric.parity is not None else wording.clean(metric.unit),  # parity names it
        best=wording.best_in_words(metric),
        before=wording.number(metric.before.value, digits),
        before_interval=wording.interval(metric.before.low, metric.before.high, digits),
        after=wording.NOTHING if after is None else wording.number(after.value, digits),
        after_interval=wording.NOTHING if after is None else wording.interval(after.low, after.high, digits),
        difference=wording.NOTHING
        if change is None
        else wording.number(change.difference, digits, signed=True),
        difference_interval=wording.NOTHING
        if change is None
        else wording.interval(change.low, change.high, digits, signed=True),
        detectable=wording.number(wording.detectable(metric), digits),
        p=wording.probability(wording.p_value(metric, row.group)),
        p_note="Holm" if holm else "",
        verdict=metric.verdict.value,
        css=metric.verdict.name.lower().replace("_", "-"),
        items=f"{metric.items} items in {metric.clusters} clusters",
        chance="" if metric.chance is None else wording.number(metric.chance, digits),
        plot=plot,
        anchor=anchor,
    )


def _section(benchmark: BenchmarkResult, anchor: str, all_items: str | None) -> _Section:
    columns = list(dict.fromkeys(str(key) for example in benchmark.examples for key in example))
    return _Section(
        benchmark=benchmark,
        anchor=anchor,
        use=wording.SPLIT_USES.get(benchmark.split, ""),
        lines=[_line(Row(benchmark, metric), anchor) for metric in benchmark.metrics],
        columns=columns,
        examples=[
            [_example_cell(example.get(column)) for column in columns] for example in benchmark.examples
        ],
        all_items=all_items,
    )


def _example_cell(value: Any) -> str:
    """A value of an example as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return wording.number(value, 3)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_example_cell(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\n".join(_example_cell(item) for item in value)
    return str(value)
