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
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# A pipe has no width of its own; 140 columns keep tables whole.
results = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
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


class Bars:
    """Progress bars with rate and time left; quiet where asked."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    @contextmanager
    def stage(self, title: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
        """Show one stage while the block runs."""
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(show_speed=True),
            TextColumn("{task.completed:,.0f} " + unit),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=messages,
            disable=self._quiet,
        ) as progress:
            task = progress.add_task(title, total=None, rate="")

            def update(done: int, total: int | None) -> None:
                speed = progress.tasks[0].speed
                rate = f"{speed:,.0f} {unit}/s" if speed else ""
                progress.update(task, completed=done, total=total, rate=rate)

            yield update
