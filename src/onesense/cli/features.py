"""``onesense features``: look into a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onesense.features.context_store import Context
    from onesense.model.language_model import LanguageModel

features_app = typer.Typer(
    help="Look at the features of a run: show, search, candidates.", no_args_is_help=True
)

Run = Annotated[
    Path, typer.Option("--run-folder", help="What `onesense extract` wrote.", envvar="ONESENSE_RUN_FOLDER")
]


@features_app.command("show")
def show_command(
    feature: Annotated[int, typer.Argument(help="Feature id.")],
    run_folder: Run,
    contexts: Annotated[int, typer.Option("--contexts", help="Contexts to show.")] = 8,
) -> None:
    """Show what a feature promotes and where it fires; the peak stands between » and «."""
    from onesense.cli.console import results, visible
    from onesense.features.contexts import Contexts
    from onesense.store.catalog import Catalog
    from onesense.store.run_folder import RunFolder

    run = RunFolder.open(run_folder)
    with Catalog(run.catalog_path, read_only=True) as catalog:
        row = catalog.feature(feature)
    results.print(f"Feature {feature} at {run.configuration['hook_point']} of {run.configuration['model']}")
    for name in ("density", "max_activation", "skewness", "kurtosis", "sparsity"):
        value = getattr(row, name)
        if value is not None:
            results.print(f"  {name}: {value:.2%}" if name == "density" else f"  {name}: {value:.3f}")
    results.print("  promotes:   " + visible("  ".join(map(repr, row.top_tokens))), markup=False)
    results.print("  suppresses: " + visible("  ".join(map(repr, row.bottom_tokens))), markup=False)
    if not run.has_result("stats"):
        return
    from onesense.model.load import load_model

    model = load_model(str(run.configuration["model"]))
    for context in Contexts.open(run).top(feature)[:contexts]:
        results.print(f"  {context.activation:8.2f}  {visible(marked(model, context))}", markup=False)


def marked(model: LanguageModel, context: Context) -> str:
    """One line of text with the peak's token between » and «."""
    ids = context.token_ids.tolist()
    before, peak, after = (
        model.decode(part) for part in (ids[: context.peak], [ids[context.peak]], ids[context.peak + 1 :])
    )
    return f"{before}»{peak}«{after}".replace("\n", "⏎")


@features_app.command("search")
def search_command(
    query: Annotated[
        str, typer.Argument(help="Words among promoted or suppressed tokens; word* for a prefix.")
    ],
    run_folder: Run,
    limit: Annotated[int, typer.Option("--limit", help="Features to list.")] = 20,
) -> None:
    """Find features by the tokens that they promote or suppress."""
    from onesense.cli.console import note, results, visible
    from onesense.store.catalog import Catalog
    from onesense.store.run_folder import RunFolder

    run = RunFolder.open(run_folder)
    with Catalog(run.catalog_path, read_only=True) as catalog:
        rows = catalog.search(query, limit)
    for row in rows:
        density = "" if row.density is None else f"{row.density:8.3%}"
        results.print(
            f"{row.feature:6d} {density}  {visible(' '.join(map(repr, row.top_tokens)))}", markup=False
        )
    if not rows:
        note(f"No feature promotes or suppresses {query!r}.")


@features_app.command("candidates")
def candidates_command(
    run_folder: Annotated[
        Path,
        typer.Option("--run-folder", help="What `onesense debias` wrote.", envvar="ONESENSE_RUN_FOLDER"),
    ],
    sort: Annotated[
        str,
        typer.Option("--sort", help="bias, fact, kl, density, toward_women, swapped, gender_words, factor …"),
    ] = "bias",
    ascending: Annotated[bool, typer.Option("--ascending", help="The smallest first.")] = False,
    hook_point: Annotated[str | None, typer.Option("--hook-point", help="Only those there.")] = None,
    edited: Annotated[bool, typer.Option("--edited", help="Only those that the recipe edits.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="Features to list.")] = 20,
) -> None:
    """List the features that debias found to carry bias, with their evidence."""
    from rich.table import Table

    from onesense.cli.console import cell, note, results
    from onesense.store.catalog import Catalog
    from onesense.store.run_folder import RunFolder

    run = RunFolder.open(run_folder)
    with Catalog(run.catalog_path, read_only=True) as catalog:
        rows = catalog.candidates(sort, not ascending, hook_point=hook_point, edited=edited, limit=limit)
    if not rows:
        note("No candidate is there.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("hook point", no_wrap=True)
    numbers = ("feature", "bias", "toward_women", "fact", "kl", "density", "factor")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("promotes", no_wrap=True, overflow="ellipsis")
    for row in rows:
        values = [getattr(row, name) for name in numbers]
        shown = ["" if value is None else f"{value:.3g}" for value in values[1:]]
        table.add_row(
            cell(row.hook_point, 40), str(row.feature), *shown, cell(" ".join(map(repr, row.promoted)), 50)
        )
    results.print(table)
