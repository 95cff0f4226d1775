"""``onesense senses``: how many senses units have."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options
from onesense.cli.senses_field_metrics import field_metrics_command
from onesense.cli.senses_split import split_command
from onesense.cli.senses_validate import validate_command

if TYPE_CHECKING:
    from onesense.senses.measure import Measured

senses_app = typer.Typer(
    help="Senses of features and neurons: measure, list, show, validate, split, field-metrics.",
    no_args_is_help=True,
)
senses_app.command("validate")(validate_command)
senses_app.command("split")(split_command)
senses_app.command("field-metrics")(field_metrics_command)

_MEASURE = "Measure"
Run = Annotated[
    Path,
    typer.Option("--run-folder", help="What `onesense senses measure` wrote.", envvar="ONESENSE_RUN_FOLDER"),
]


@senses_app.command("measure")
def measure_command(
    model: options.Model = None,
    model_name: options.ModelName = None,
    sae_release: options.SaeRelease = None,
    sae_id: options.SaeId = None,
    sae_path: options.SaePath = None,
    text: options.Text = None,
    text_field: options.TextField = "text",
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", help="Tokens to read at most.", rich_help_panel=_MEASURE)
    ] = 250_000,
    contexts: Annotated[
        int, typer.Option("--contexts", help="Contexts of each unit.", rich_help_panel=_MEASURE)
    ] = 128,
    beside: Annotated[
        str,
        typer.Option(
            "--beside",
            help="What is measured beside the features, at matched firing rate: all, neurons, residual-basis, none.",
            rich_help_panel=_MEASURE,
        ),
    ] = "all",
    check: options.Check = True,
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
    """Count the senses of every feature, and of neurons and the residual basis beside them."""
    from onesense.cli.choice import choose, tell_dictionary
    from onesense.cli.console import Bars, note
    from onesense.config import load_settings
    from onesense.store.progress import RecordedStages
    from onesense.store.run_folder import folder_name

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

    from onesense.engine.choose import open_executor
    from onesense.model.load import load_model
    from onesense.senses.measure import MeasureSettings, measure_senses
    from onesense.senses.picture import draw_senses
    from onesense.senses.sense_catalog import write_sense_catalog

    chosen = MeasureSettings(
        text=text,
        text_field=text_field,
        tokens=max_tokens,
        contexts=contexts,
        others=_others(beside),
        seed=settings.seed,
        dtype=settings.dtype,
        check=check,
        force=force,
    )
    dictionary = choice.load()
    loaded = load_model(choice.model, dtype="float32", device=settings.device, device_map=settings.device_map)
    tell_dictionary(dictionary)
    folder = settings.run_folder or Path("onesense-runs") / folder_name(
        "senses", loaded.name, dictionary.origin.label
    )
    stages = RecordedStages(Bars(quiet=quiet), folder)
    with closing(open_executor(ray, storage=ray_storage, device=loaded.device.type)) as executor:
        measured = measure_senses(loaded, dictionary, folder, chosen, stages=stages, executor=executor)
    write_sense_catalog(measured, loaded)
    title = f"Senses at {dictionary.hook_point} of {loaded.name}, {len(measured.measurement.activity):,} positions"
    picture = draw_senses(measured.tables, measured.run.path / "senses.png", title)
    _show(measured)
    note(f"Picture: {picture}")
    note(f"Run folder: {measured.run.path}")


@senses_app.command("list")
def list_command(
    run_folder: Run,
    units: Annotated[
        str | None, typer.Option("--units", help="Only these: features, neurons, residual basis.")
    ] = None,
    least: Annotated[int, typer.Option("--min-senses", help="Only with so many senses or more.")] = 0,
    sort: Annotated[
        str,
        typer.Option("--sort", help="several, effective, number, separation, token_entropy, density, unit."),
    ] = "several",
    ascending: Annotated[bool, typer.Option("--ascending", help="The smallest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="Units to list.")] = 20,
) -> None:
    """List units with their senses, the most polysemantic first."""
    from rich.table import Table

    from onesense.cli.console import cell, note, results
    from onesense.store.catalog import Catalog
    from onesense.store.run_folder import RunFolder
    from onesense.store.senses import read_senses

    run = RunFolder.open(run_folder)
    with Catalog(run.catalog_path, read_only=True) as catalog:
        rows = read_senses(catalog, sort, not ascending, unit_set=units, least=least, limit=limit)
    if not rows:
        note("No such unit is there.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("units", no_wrap=True)
    for name in ("unit", "senses", "effective", "several", "density"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("tokens of each sense", overflow="ellipsis", no_wrap=True)
    for row in rows:
        tokens = " | ".join(" ".join(sense) for sense in row.tokens)
        table.add_row(
            row.unit_set,
            str(row.unit),
            "?" if row.number is None else str(row.number),
            _number(row.effective),
            _number(row.several),
            "" if row.density is None else f"{row.density:.2%}",
            cell(tokens, 70),
        )
    results.print(table)


@senses_app.command("show")
def show_command(
    unit: Annotated[int, typer.Argument(help="Number of the feature, neuron or coordinate.")],
    run_folder: Run,
    units: Annotated[str, typer.Option("--units", help="features, neurons or residual basis.")] = "features",
    contexts: Annotated[int, typer.Option("--contexts", min=1, help="Contexts of each sense.")] = 5,
) -> None:
    """Show the senses of a unit, each with its contexts; the token stands between » and «."""
    from onesense.cli.console import note, results, visible
    from onesense.errors import NotFoundError
    from onesense.model.load import load_model
    from onesense.senses.measure import open_measured
    from onesense.senses.sense_catalog import contexts_of, top_tokens
    from onesense.store.run_folder import RunFolder

    run = RunFolder.open(run_folder)
    activity, tables = open_measured(run)
    if units not in tables:
        raise NotFoundError(f"{run.path} has no {units!r}.", hint=f"It has: {', '.join(tables)}.")
    table = tables[units]
    if not 0 <= unit < len(table.number):
        raise NotFoundError(
            f"There is no unit {unit} among the {units}.", hint=f"They go from 0 to {len(table.number) - 1}."
        )
    model = load_model(str(run.configuration["model"]))
    results.print(
        f"{units}, {unit} at {run.configuration['hook_point']}: fires at {table.density[unit]:.2%} of the text"
    )
    if not table.known[unit]:
        note("It has too few contexts in this text, or all of one document, to say how many senses it has.")
        return
    number = int(table.number[unit])
    results.print(
        f"{number} sense{'s' if number > 1 else ''} (effective {table.effective[unit]:.2f}); looks like several: "
        f"{table.several[unit]:.2f}"
    )
    for which in range(number):
        sample = table.sense(unit, which)
        share = sample.value.sum() / table.value[unit].sum()
        tokens = " ".join(model.token_strings(top_tokens(activity, sample)))
        results.print(f"\nSense {which + 1}, {share:.0%} of the activation: {visible(tokens)}", markup=False)
        for one in contexts_of(model, activity, table, unit, which, contexts):
            line = f"{one.before}»{one.token}«{one.after}".replace("\n", "⏎")
            results.print(f"  {one.activation:8.2f}  {visible(line)}", markup=False)


def _others(beside: str) -> tuple[str, ...]:
    from onesense.errors import ConfigurationError

    sets = {
        "all": ("neurons", "residual basis"),
        "neurons": ("neurons",),
        "residual-basis": ("residual basis",),
        "none": (),
    }
    if beside not in sets:
        raise ConfigurationError(
            f"There are no units called {beside!r} to measure beside.", hint=f"Choose: {', '.join(sets)}."
        )
    return sets[beside]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _show(measured: Measured) -> None:
    from math import isnan

    from rich.table import Table

    from onesense.cli.console import results, warn
    from onesense.senses.comparison import share_difference
    from onesense.senses.judge import SMALLEST_SET

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("units", no_wrap=True)
    for name in ("all", "measured", "several senses", "effective, mean", "median looks like several"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in measured.tables.items():
        known = found.known
        numbers = (
            (
                f"{found.share_polysemantic():.1%}",
                f"{float(found.effective[known].mean()):.2f}",
                f"{sorted(found.several[known])[int(known.sum()) // 2]:.2f}",
            )
            if known.any()
            else ("", "", "")
        )
        table.add_row(name, f"{len(known):,}", f"{int(known.sum()):,}", *numbers)
    results.print(table)
    if silent := [name for name, found in measured.tables.items() if not found.known.any()]:
        warn(
            f"Nothing is known of {', '.join(silent)}: it takes {SMALLEST_SET} contexts of a unit, from two documents "
            "at least. Read more text: --text, --max-tokens."
        )
    first, *others = measured.tables
    for name in others:
        ahead = share_difference(measured.tables[name], measured.tables[first])
        if not isnan(ahead.value):
            results.print(
                f"{name} have several senses more often than {first} by {100 * ahead.value:+.1f} points "
                f"[{100 * ahead.low:.1f}, {100 * ahead.high:.1f}]",
                markup=False,
            )
