"""``onesense verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from onesense.debias.export.verify import Line, Verification

_STYLES = {"ok": "green", "failed": "bold red", "not compared": "dim"}


def verify_command(
    folder: Annotated[Path, typer.Argument(help="Folder that `onesense export` made.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="The model that it was made from; the one it names by default."),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option("--suite", help="Replay this suite (quick, standard, full), not the recorded one."),
    ] = None,
    hashes_only: Annotated[
        bool, typer.Option("--hashes-only", help="Check the files only; nothing is loaded.")
    ] = False,
    device: options.Device = None,
    quiet: options.Quiet = False,
) -> None:
    """Check an export: every file by its hash, its KL to the recipe, and its audit, measured again."""
    from onesense.cli.console import Bars, results
    from onesense.config import load_settings
    from onesense.debias.export.verify import verify_export, verify_files

    if hashes_only:
        manifest = verify_files(folder)
        results.print(
            f"{len(manifest.files)} files of {folder} are as they were exported. Nothing was measured again.",
            markup=False,
        )
        return
    settings = load_settings(device=device)
    base = None
    if model is not None:
        from onesense.model.load import load_model

        base = load_model(model, dtype=verify_files(folder).dtype, device=settings.device)
    found = verify_export(folder, base=base, suite=suite, device=settings.device, stages=Bars(quiet=quiet))
    _show(found)
    found.require()


def _show(found: Verification) -> None:
    from onesense.cli.console import results, warn

    results.print(f"{found.files} files are as they were exported.")
    results.print(_table(found))
    for line in found.notes:
        warn(line)


def _table(found: Verification) -> Table:
    from rich.table import Table
    from rich.text import Text

    from onesense.cli.console import cell

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("number", "recorded", "95 % interval", "now", "verdict"):
        table.add_column(heading, justify="left" if heading in ("number", "verdict") else "right")
    for line in found.lines:
        low, high = (_number(end, line) for end in (line.recorded.low, line.recorded.high))
        between = "–" if line.recorded.low is None else f"{low} to {high}"
        why = f" ({cell(line.reason, 60)})" if line.reason else ""
        verdict = Text(f"{line.finding}{why}", style=_STYLES[line.finding])
        table.add_row(
            cell(line.name, 60),
            _number(line.recorded.value, line),
            between,
            _number(line.found, line),
            verdict,
        )
    return table


def _number(value: float | None, line: Line) -> str:
    return "–" if value is None else f"{value:.{line.decimals}f}"
