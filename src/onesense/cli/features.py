"""``onesense features``: look into a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onesense.features.context_store import Context
    from onesense.model.language_model import LanguageModel

features_app = typer.Typer(help="Look at the features of a run: show, search.", no_args_is_help=True)

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
