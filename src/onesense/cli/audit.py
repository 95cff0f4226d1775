"""``onesense audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from onesense.bias.audit import Audit, AuditSettings

_AUDIT = "Audit"


def audit_command(
    model: options.Model = None,
    model_name: options.ModelName = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="Edits to judge, as a recipe file.", rich_help_panel=_AUDIT),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", help="Compare with this recipe, not with the unedited model.", rich_help_panel=_AUDIT
        ),
    ] = None,
    suite: Annotated[
        str,
        typer.Option(
            "--suite",
            help="quick (about a minute), standard, or full (also generates).",
            rich_help_panel=_AUDIT,
        ),
    ] = "standard",
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark",
            help="Only this one, such as stereoset-test-gender. May be repeated.",
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", help="Bootstrap draws of the intervals.", rich_help_panel=_AUDIT)
    ] = 10_000,
    run_folder: options.RunFolderOption = None,
    seed: options.Seed = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure gender bias and ability of a model, and what a recipe changes, with intervals and tests."""
    from onesense.cli.choice import DEMO, load_to_measure
    from onesense.cli.console import Bars, note, warn
    from onesense.config import load_settings

    settings = load_settings(
        model_name=model_name, run_folder=run_folder, seed=seed, dtype=dtype, device=device
    )
    from onesense.bias.audit import AuditSettings, audit
    from onesense.bias.scoring.encoded import describe_prefix
    from onesense.steer.recipe import read_recipe

    chosen = AuditSettings(
        suite=suite, benchmarks=tuple(benchmark or ()), draws=draws, seed=settings.seed, force=force
    )
    chosen.chosen()  # an unknown name is told before the model is loaded
    recipes = [None if path is None else read_recipe(path) for path in (recipe, against)]
    name = model or settings.model_name or DEMO
    loaded = load_to_measure(name, settings)
    note(f"Model {loaded.name} ({loaded.family}, {loaded.n_layers} layers); {describe_prefix(loaded)}")
    folder = settings.run_folder or _folder(
        loaded.name, chosen, [one.content_hash if one else "" for one in recipes]
    )
    found = audit(
        loaded, folder, recipe=recipes[0], against=recipes[1], settings=chosen, stages=Bars(quiet=quiet)
    )
    for line in found.result.notes:
        warn(line)
    _show(found)


def _folder(model: str, settings: AuditSettings, hashes: list[str]) -> Path:
    """A folder for each thing that can be asked, so that two audits do not meet in one."""
    from hashlib import sha256

    from onesense.cli.extract import folder_name

    keys = settings.benchmarks
    several = sha256(" ".join(keys).encode()).hexdigest()[:8]
    asked = settings.suite if not keys else keys[0] if len(keys) == 1 else f"{len(keys)}-benchmarks-{several}"
    return Path("onesense-runs") / folder_name("audit", model, asked, *(part[:8] for part in hashes if part))


def _show(found: Audit) -> None:
    from onesense.cli.console import note, results
    from onesense.report.audit_files import write_audit_files
    from onesense.report.audit_table import audit_table

    paths = write_audit_files(found)
    results.print(audit_table(found.result))
    for path in paths:
        note(f"Written: {path}")
