"""``onesense senses validate``: does the measure of senses find what is known to be there?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from onesense.senses.validation.validation import Validation

_TESTS = ("union", "planted", "widths")


def validate_command(
    model: options.Model = None,
    model_name: options.ModelName = None,
    sae_release: options.SaeRelease = None,
    sae_id: options.SaeId = None,
    sae_path: options.SaePath = None,
    tests: Annotated[
        str,
        typer.Option("--tests", help="union, planted, widths: which, with commas. widths needs --width-of."),
    ] = "union,planted",
    width_of: Annotated[
        list[Path] | None,
        typer.Option("--width-of", help="Folder of a dictionary of another width; may be repeated."),
    ] = None,
    senses: Annotated[
        Path | None,
        typer.Option("--senses", help="Run folder of `onesense senses measure`: its text is not read again."),
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", help="Pairs of the union test.")] = 600,
    contexts: Annotated[int, typer.Option("--contexts", help="Contexts of each set.")] = 128,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Tokens to read at most.")] = 250_000,
    text: options.Text = None,
    text_field: options.TextField = "text",
    run_folder: options.RunFolderOption = None,
    seed: options.Seed = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    quiet: options.Quiet = False,
) -> None:
    """Test the measure of senses on ground truth, beside cheap alternatives; it takes no judge."""
    from onesense.cli.choice import choose
    from onesense.cli.console import Bars, note
    from onesense.config import load_settings
    from onesense.errors import ConfigurationError
    from onesense.store.atomic import write_json
    from onesense.store.progress import RecordedStages
    from onesense.store.run_folder import folder_name

    wanted = [one.strip() for one in tests.split(",") if one.strip()]
    unknown = [one for one in wanted if one not in _TESTS]
    if unknown or not wanted:
        raise ConfigurationError(
            f"There is no test {unknown[0]!r}." if unknown else "No test was named.",
            hint=f"Choose: {', '.join(_TESTS)}.",
        )
    if "widths" in wanted and not width_of:
        raise ConfigurationError(
            "Widths are compared between dictionaries, and only one was named.",
            hint="Name others with --width-of FOLDER.",
        )
    settings = load_settings(
        model_name=model_name,
        sae_release=sae_release,
        sae_id=sae_id,
        run_folder=run_folder,
        seed=seed,
        dtype=dtype,
        device=device,
        device_map=device_map,
    )
    choice = choose(settings, positional_model=model, sae_path=sae_path)
    from onesense.cli.senses_runs import measured_again
    from onesense.model.load import load_model
    from onesense.sae.load import load_dictionary
    from onesense.senses.validation.validate import ValidateSettings, validate_senses

    dictionary = choice.load()
    loaded = load_model(choice.model, dtype="float32", device=settings.device, device_map=settings.device_map)
    stages = Bars(quiet=quiet)
    read = None if senses is None else measured_again(loaded, dictionary, senses, text, stages).measurement
    folder = settings.run_folder or Path("onesense-runs") / folder_name(
        "senses-validate", loaded.name, dictionary.origin.label
    )
    found = validate_senses(
        loaded,
        dictionary,
        [load_dictionary(path=path) for path in width_of or []],
        folder,
        ValidateSettings(
            tests=tuple(wanted),
            text=text,
            text_field=text_field,
            tokens=max_tokens,
            contexts=contexts,
            pairs=pairs,
            seed=settings.seed,
            dtype=settings.dtype,
        ),
        read=None if read is None else read.activity,
        stages=RecordedStages(stages, folder),
    )
    write_json(folder / "validation.json", found.to_json())
    _show(found)
    note(f"Everything as JSON: {folder / 'validation.json'}")


def _show(found: Validation) -> None:
    from rich.table import Table

    from onesense.cli.console import results

    if found.union is not None:
        union = found.union
        results.print(
            f"Union test: {union.pairs} pairs of features, {union.contexts} contexts; AUROC of telling a union from "
            "a single feature"
        )
        table = Table(box=None, header_style="bold", pad_edge=False)
        shares = list(dict.fromkeys(one.share for one in union.scores))
        table.add_column("score", no_wrap=True)
        for share in shares:
            table.add_column(f"{share:.0%} : {1 - share:.0%}", justify="right", no_wrap=True)
        for rows in zip(*(union.of(share) for share in shares), strict=True):
            cells = [f"{one.auroc.value:.3f} [{one.auroc.low:.3f}, {one.auroc.high:.3f}]" for one in rows]
            table.add_row(rows[0].name, *cells)
        results.print(table)
        for name, reason in union.left_out.items():
            results.print(f"{name}: left out. {reason}", markup=False)
    if found.planted is not None:
        planted = found.planted
        rho, single = planted.correlation, planted.single
        results.print(
            f"Planted senses, {planted.units} units: rank correlation {rho.value:.3f} [{rho.low:.3f}, {rho.high:.3f}]; "
            f"of {planted.singles} single ones {single.value:.1%} [{single.low:.1%}, {single.high:.1%}] called single",
            markup=False,
        )
    if found.widths is not None:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("features", "measured", "effective senses", "several senses"):
            table.add_column(name, justify="right", no_wrap=True)
        for one in found.widths.widths:
            table.add_row(
                f"{one.width:,}",
                f"{one.units:,}",
                f"{one.effective.value:.3f} [{one.effective.low:.3f}, {one.effective.high:.3f}]",
                f"{one.several.value:.1%} [{one.several.low:.1%}, {one.several.high:.1%}]",
            )
        results.print(table)
