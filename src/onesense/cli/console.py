"""What people see: progress bars, notes, tables. Everything but results goes to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

# A pipe has no width of its own; 140 columns keep tables whole.
results = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
_WIDE, _WIDE_WITH_LIVE = 80, 120  # columns that a bar and a rate need
RULE = "-" * 80  # between samples, as the original project printed
messages = Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A line for the user beside the results."""
    messages.print(Text(visible(text), style="dim"))


def warn(text: str) -> None:
    """A line that the user should not miss."""
    messages.print(Text(f"Warning: {visible(text)}", style="yellow"))


def visible(text: str) -> str:
    """Text without control characters: tokens and prompts are not trusted with the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def cell(text: str, width: int) -> str:
    """Untrusted text for a table cell."""
    clean = visible(text).replace("\n", "⏎").replace("\t", "⇥")
    return escape(clean if len(clean) <= width else clean[: width - 1] + "…")


class _Live(ProgressColumn):
    """What else there is to show at the moment."""

    def __init__(self, live: Callable[[], str], table_column: Column | None = None) -> None:
        super().__init__(table_column)
        self._live_text = live

    def render(self, task: Task) -> Text:
        """Ask anew."""
        del task
        return Text(visible(self._live_text()))


class Bars:
    """Progress bars with rate and time left; quiet where asked.

    Args:
        quiet: No bars.
        live: Asked again and again for what else to show, such as money spent.
    """

    def __init__(self, *, quiet: bool = False, live: Callable[[], str] | None = None) -> None:
        self._quiet = quiet
        self._live = live

    @contextmanager
    def stage(self, title: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
        """Show one stage while the block runs."""
        with Progress(*self._columns(unit), console=messages, disable=self._quiet) as progress:
            task = progress.add_task(title, total=None, rate="")

            def update(done: int, total: int | None) -> None:
                speed = progress.tasks[0].speed
                rate = f"{speed:,.0f} {unit}/s" if speed else ""
                progress.update(task, completed=done, total=total, rate=rate)

            yield update

    def _columns(self, unit: str) -> list[ProgressColumn]:
        """What fits on one line: in a narrow terminal neither bar nor rate."""
        live = [] if self._live is None else [_Live(self._live, table_column=Column(no_wrap=True))]
        wide = messages.width >= (_WIDE if self._live is None else _WIDE_WITH_LIVE)
        columns: list[ProgressColumn | None] = [
            SpinnerColumn(),
            _one_line("{task.description}"),
            BarColumn(bar_width=30) if wide else None,
            TaskProgressColumn(show_speed=True, table_column=Column(no_wrap=True)),
            _one_line("{task.completed:,.0f} " + unit),
            _one_line("{task.fields[rate]}") if wide else None,
            TimeRemainingColumn(table_column=Column(no_wrap=True)) if wide or not live else None,
            *live,
        ]
        return [column for column in columns if column is not None]


def _one_line(text: str) -> TextColumn:
    return TextColumn(text, table_column=Column(no_wrap=True))
