"""A run of debias as the last screens of a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from onesense.bias.benchmark import Split
from onesense.bias.results import AuditResult
from onesense.debias.results import DebiasResult, EditedFeature
from onesense.report import wording
from onesense.report.audit_table import audit_table
from onesense.report.debias_controls import (
    ControlGroup,
    MetricKey,
    Standing,
    control_groups,
    headline_metrics,
    metric_of,
    standing_of,
)
from onesense.report.debias_forest import random_draws
from onesense.report.debias_wording import (
    control_findings,
    metric_name,
    percent,
    percent_interval,
    small,
    verdict,
    visible,
    weakest_link,
)

WIDTH = 100
_GAP = 2
_FEATURES = 10
_LONGEST_NAME = 34
_LONGEST_TOKENS = 52
_NAME_COLUMN = 33
_STYLES = {
    Standing.BEHIND: "dim",
    Standing.TIED: "yellow",
    Standing.AHEAD: "bold yellow",
    Standing.UNKNOWN: "dim",
}
"""Colour only repeats what the word says."""


def debias_table(
    result: DebiasResult, files: Mapping[str, Path | str] | None = None, width: int = WIDTH
) -> DebiasTable:
    """The verdict, the front, the held-out audit, the controls, the features edited, and where files are.

    Args:
        result: What the run found.
        files: What was written, by what it is (``page``, ``recipe``, …).
        width: Columns that it may take at most.

    Returns:
        What ``rich`` prints.
    """
    return DebiasTable(result, dict(files or {}), width)


@dataclass(frozen=True, slots=True)
class DebiasTable:
    """A run of debias that ``rich`` prints.

    Attributes:
        result: What the run found.
        files: What was written, by what it is.
        width: Columns that it may take at most.
    """

    result: DebiasResult
    files: dict[str, Path | str] = field(default_factory=dict)
    width: int = WIDTH

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The parts one below the other, each with its heading."""
        result, width = self.result, min(self.width, options.max_width)

        def lines(text: Text) -> Iterator[Text]:
            # broken here, so that a console which does not wrap shows the same
            for line in text.wrap(console, width):
                line.rstrip()
                yield line

        yield from lines(Text(verdict(result), style="bold"))
        if result.front:
            yield from _headed("Recipes, measured on the tune split", _front_table(result))
        if result.audit is not None:
            yield Text("\nThe audit of the chosen recipe", style="bold underline")
            yield audit_table(_without_tuning(result.audit), width)
        for group in control_groups(result.proof):
            for key in headline_metrics(result):
                name = f"Controls at KL {small(group.target_kl)}: {metric_name(result, key)}"
                yield from _headed(_cut(name, width), _controls_table(group, key))
        for sentence in control_findings(result):
            yield from lines(Text(sentence))
        if result.edited:
            shown = min(len(result.edited), _FEATURES)
            title = f"Edited features, {shown} of {len(result.edited)}"
            yield from _headed(title, _features_table(result.edited[:_FEATURES], width))
            alone = weakest_link(result)
            if alone is not None:
                yield from lines(Text(alone))
        yield Text()
        for note in result.notes:
            yield from lines(Text.assemble(("Note: ", "bold"), wording.clean(note)))
        for what, path in self.files.items():
            yield from lines(Text.assemble((f"{wording.clean(what)}: ", "bold"), wording.clean(str(path))))


def _headed(title: str, table: Table) -> Iterator[Text | Table]:
    yield Text(f"\n{title}", style="bold underline")
    yield table


def _without_tuning(audit: AuditResult) -> AuditResult:
    """The sets that nothing was chosen by: those looked at while tuning stand in the file and on the page."""
    open_splits = (Split.FIND, Split.TUNE)
    kept = [benchmark for benchmark in audit.benchmarks if benchmark.split not in open_splits]
    return dataclasses.replace(audit, benchmarks=kept)


def _grid(*headings: str, gap: int = _GAP) -> Table:
    """A table without lines; the first column holds text and gives way, the others numbers."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(headings[0])
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _front_table(result: DebiasResult) -> Table:
    table = _grid("recipe", "KL", "spread left", "slope left", "facts kept", "features")
    for place, point in enumerate(result.front):
        chosen = place == result.chosen
        name = f"{place + 1}, chosen" if chosen else f"{place + 1}"
        shares = (percent(value, 1) for value in (point.spread, point.slope, point.facts))
        table.add_row(name, small(point.kl), *shares, f"{point.features}", style="bold" if chosen else "")
    return table


def _controls_table(group: ControlGroup, key: MetricKey) -> Table:
    table = _grid("what was changed", "edits", "KL", "bias gone [95 %]", "recipe ahead", gap=1)
    table.columns[0].max_width = _NAME_COLUMN
    table.add_column("", no_wrap=True)
    for control in group.members:
        if control in group.draws:
            continue
        metric, standing = metric_of(control, key), standing_of(control, key)
        if metric is None:
            continue
        reduction, behind = metric.reduction, metric.behind
        lead = wording.NOTHING
        if behind is not None:
            ahead = wording.number(100 * behind.value, 0, signed=True)
            lead = f"{ahead} {percent_interval(behind.low, behind.high, signed=True)}"
        recipe = control is group.recipe
        table.add_row(
            Text(_cut(wording.clean(control.name), 2 * _LONGEST_NAME)),
            f"{control.edits}",
            small(control.kl) + ("" if recipe or control.reached else "*"),
            Text(f"{percent(reduction.value)} {percent_interval(reduction.low, reduction.high)}"),
            Text(lead),
            Text("" if recipe else standing.value.split(",")[0], style="" if recipe else _STYLES[standing]),
            style="bold" if recipe else "",
        )
    draws = random_draws(group, key)
    if draws is not None:
        table.add_row(
            Text(draws.name),
            "",
            "",
            Text(f"{draws.reduction} {draws.reduction_interval}"),
            "",
            Text(draws.short),
        )
    if any(not one.reached for one in group.peers):
        table.add_row(Text("* not at the target’s KL", style="dim"))
    return table


def _features_table(edited: tuple[EditedFeature, ...], width: int) -> Table:
    table = _grid("hook point · feature", "edit", "bias", "without it")
    table.add_column("promotes", no_wrap=True)
    rows = []
    for one in edited:
        found = one.evidence
        edit = f"× {wording.number(one.factor, 2)}"
        if one.threshold:
            edit += f" less {wording.number(one.threshold, 2)}"
        without = wording.NOTHING if one.without is None else percent(one.without.spread)
        place = _cut(f"{wording.clean(found.hook_point)} · {found.feature}", _LONGEST_NAME)
        rows.append((place, edit, wording.number(found.bias, 3), without))
    headings = [str(column.header) for column in table.columns[:-1]]
    taken = sum(max(cell_len(cell) for cell in column) + _GAP for column in zip(headings, *rows, strict=True))
    for one, cells in zip(edited, rows, strict=True):
        tokens = " ".join(visible(token) for token in one.evidence.promoted)
        room = max(min(width - taken, _LONGEST_TOKENS), 1)
        table.add_row(*(Text(cell) for cell in cells), Text(_cut(tokens, room)))
    return table


def _cut(text: str, room: int) -> str:
    return text if cell_len(text) <= room else set_cell_size(text, max(room - 1, 0)).rstrip() + "…"
