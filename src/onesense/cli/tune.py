"""``onesense tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onesense.cli import options

_TUNE = "Tune by hand"


def tune_command(
    model: options.Model = None,
    model_name: options.ModelName = None,
    sae_release: options.SaeRelease = None,
    sae_id: options.SaeIds = None,
    sae_path: options.SaePaths = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Recipe to begin with.", rich_help_panel=_TUNE)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="FEATURE=FACTOR, such as 460=0.3, or 15/460=0.3 where there are several depths; 0 turns the feature "
            "off, 1 leaves it alone. May be repeated.",
            rich_help_panel=_TUNE,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", help="Where the recipe goes.", rich_help_panel=_TUNE)
    ] = Path("recipe.json"),
    suite: Annotated[
        str,
        typer.Option(
            "--suite", help="Audit afterwards: quick, standard, full, or none.", rich_help_panel=_TUNE
        ),
    ] = "quick",
    run_folder: options.RunFolderOption = None,
    seed: options.Seed = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Set the factors of features by hand, and audit the model with them."""
    from onesense.cli.audit import audit_command
    from onesense.cli.choice import DEMO, load_to_measure, named_dictionaries
    from onesense.cli.console import results
    from onesense.config import load_settings
    from onesense.debias.hand_tuning import parse_setting, with_factors
    from onesense.errors import ConfigurationError

    settings = load_settings(
        model_name=model_name,
        sae_release=sae_release,
        run_folder=run_folder,
        seed=seed,
        dtype=dtype,
        device=device,
        device_map=device_map,
    )
    wanted = [parse_setting(text) for text in set_ or ()]
    if not wanted and recipe is None:
        raise ConfigurationError("There is nothing to tune.", hint="Set a feature: --set 460=0.3")

    from onesense.steer.recipe import ModelReference, Recipe, read_recipe, write_recipe

    begin = None if recipe is None else read_recipe(recipe)
    name = model or settings.model_name or DEMO
    loaded = load_to_measure(name, settings)
    if begin is None:
        begin = Recipe(model=ModelReference.of(loaded), note="tuned by hand")
    begin.check_model(loaded, force=force)
    dictionaries = (
        [part.dictionary.load() for part in begin.parts]
        if begin.parts
        else named_dictionaries(name, settings, sae_id or [], sae_path or [])
    )
    tuned = with_factors(begin, wanted, dictionaries)
    write_recipe(tuned, output)
    edits = [
        (part.hook_point, edit.feature, edit.operation, edit.amount)
        for part in tuned.parts
        for edit in part.edits
    ]
    for hook_point, feature, operation, amount in edits if len(edits) <= 20 else []:
        results.print(f"{hook_point}  feature {feature}  {operation} {amount:g}", markup=False)
    results.print(f"Recipe of {len(edits)} edits: {output} ({tuned.content_hash[:12]})", markup=False)
    if suite != "none":
        audit_command(
            model=name,
            recipe=output,
            suite=suite,
            run_folder=run_folder,
            seed=seed,
            dtype=dtype,
            device=device,
            device_map=device_map,
            force=force,
            quiet=quiet,
        )
