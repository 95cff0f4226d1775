"""``onesense audit``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from onesense.bias.audit import Audit

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
    device_map: options.DeviceMap = None,
    force: options.Force = False,
    ray: options.Ray = None,
    ray_storage: options.RayStorage = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure gender bias and ability of a model, and what a recipe changes, with intervals and tests."""
    from onesense.cli.choice import DEMO, load_to_measure
    from onesense.cli.console import Bars, note, warn
    from onesense.config import load_settings
    from onesense.store.progress import RecordedStages

    settings = load_settings(
        model_name=model_name,
        run_folder=run_folder,
        seed=seed,
        dtype=dtype,
        device=device,
        device_map=device_map,
    )
    from onesense.bias.audit import AuditSettings, audit
    from onesense.bias.audit_memory import estimate_audit_memory
    from onesense.bias.scoring.encoded import describe_prefix
    from onesense.engine.choose import open_executor
    from onesense.steer.recipe import read_recipe

    chosen = AuditSettings(
        suite=suite, benchmarks=tuple(benchmark or ()), draws=draws, seed=settings.seed, force=force
    )
    chosen.chosen()  # an unknown name is told before the model is loaded
    recipes = [None if path is None else read_recipe(path) for path in (recipe, against)]
    name = model or settings.model_name or DEMO
    loaded = load_to_measure(name, settings)
    note(f"Model {loaded.name} ({loaded.family}, {loaded.n_layers} layers); {describe_prefix(loaded)}")
    memory = estimate_audit_memory(loaded, recipes, chosen)
    note(f"This takes {memory}")
    memory.require(force=force)
    folder = settings.run_folder or Path("onesense-runs") / chosen.folder_name(
        loaded.name, [one.content_hash for one in recipes if one]
    )
    with closing(open_executor(ray, storage=ray_storage, device=loaded.device.type)) as executor:
        found = audit(
            loaded,
            folder,
            recipe=recipes[0],
            against=recipes[1],
            settings=chosen,
            stages=RecordedStages(Bars(quiet=quiet), folder),
            executor=executor,
        )
    for line in found.result.notes:
        warn(line)
    _show(found)


def _show(found: Audit) -> None:
    from onesense.cli.console import note, results
    from onesense.report.audit_files import write_audit_files
    from onesense.report.audit_table import audit_table

    paths = write_audit_files(found)
    results.print(audit_table(found.result))
    for path in paths:
        note(f"Written: {path}")
