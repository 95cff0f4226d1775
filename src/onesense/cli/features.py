"""``onesense features``: look into a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onesense.features.context_store import Context
    from onesense.model.language_model import LanguageModel
    from onesense.store.explanations import ExplanationRow, ScoreRow

features_app = typer.Typer(
    help="Look at the features of a run: show, search, candidates, neuronpedia.", no_args_is_help=True
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
    """Show what a feature is said to be, what it promotes and where it fires; the peak stands between » and «."""
    from onesense.cli.console import results, visible
    from onesense.features.contexts import Contexts
    from onesense.store.catalog import Catalog
    from onesense.store.explanations import read_explanations, read_scores
    from onesense.store.run_folder import RunFolder

    run = RunFolder.open(run_folder)
    with Catalog(run.catalog_path, read_only=True) as catalog:
        row = catalog.feature(feature)
        said = [
            *map(_said, read_explanations(catalog, feature)),
            *map(_scored, read_scores(catalog, feature)),
        ]
    # A run that was begun from a table knows neither.
    known = [run.configuration[name] for name in ("hook_point", "model") if name in run.configuration]
    results.print(visible(f"Feature {feature}" + (f" at {' of '.join(map(str, known))}" if known else "")))
    for name in ("density", "max_activation", "skewness", "kurtosis", "sparsity"):
        value = getattr(row, name)
        if value is not None:
            results.print(f"  {name}: {value:.2%}" if name == "density" else f"  {name}: {value:.3f}")
    results.print("  promotes:   " + visible("  ".join(map(repr, row.top_tokens))), markup=False)
    results.print("  suppresses: " + visible("  ".join(map(repr, row.bottom_tokens))), markup=False)
    for line in said:
        results.print("  " + visible(line), markup=False)
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


def _said(row: ExplanationRow) -> str:
    """One line: who says what of which sense, or why there is nothing."""
    author = row.model or row.method
    of = "" if row.sense < 0 else f", sense {row.sense + 1}"
    return f"{author}{of}: {row.text if row.status == 'ok' else f'({row.status}: {row.detail})'}"


def _scored(row: ScoreRow) -> str:
    """One line: the score with its interval, beside that of another feature's explanation."""
    of = "" if row.sense < 0 else f", sense {row.sense + 1}"
    of += f" of {row.model or row.method}" if row.method != "none" else ""
    if row.value is None:
        return f"{row.kind}{of} by {row.judge}: none ({row.detail})"
    interval = "" if row.low is None or row.high is None else f" [{row.low:.2f}, {row.high:.2f}]"
    beside = "by chance" if row.kind == "intruder" else "with another feature's words"
    baseline = "" if row.baseline is None else f", {beside} {row.baseline:.2f}"
    missing = f", {row.missing} missing" if row.missing else ""
    return f"{row.kind}{of} by {row.judge}: {row.value:.2f}{interval}{baseline}{missing}"


@features_app.command("search")
def search_command(
    query: Annotated[
        str,
        typer.Argument(
            help="Words of explanations, or of promoted or suppressed tokens; word* for a prefix, OR between "
            "words for either side, quotes for words that stand together."
        ),
    ],
    run_folder: Run,
    limit: Annotated[int, typer.Option("--limit", help="Features to list.")] = 20,
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", help="Only where an explanation scored so high (balanced accuracy)."),
    ] = None,
) -> None:
    """Find features by what they are said to be and by the tokens that they promote or suppress."""
    from onesense.cli.console import note, results, visible
    from onesense.store.catalog import Catalog
    from onesense.store.explanations import best_explanations, read_scores
    from onesense.store.run_folder import RunFolder

    run = RunFolder.open(run_folder)
    with Catalog(run.catalog_path, read_only=True) as catalog:
        rows = catalog.search(query, limit, min_score=min_score)
        said = best_explanations(catalog, [row.feature for row in rows])
        scores = {row.feature: read_scores(catalog, row.feature) for row in rows}
    for row in rows:
        density = " " * 8 if row.density is None else f"{row.density:8.3%}"
        values = [
            one.value for one in scores[row.feature] if one.value is not None and one.kind != "intruder"
        ]
        best = f"{max(values):.2f}" if values else " " * 4
        words = said[row.feature].text if row.feature in said else " ".join(map(repr, row.top_tokens))
        results.print(f"{row.feature:6d} {density} {best}  {visible(words)}", markup=False)
    if not rows:
        least = "" if min_score is None else f" with a score of {min_score} or more"
        note(f"No feature is said to be, promotes or suppresses {query!r}{least}.")


@features_app.command("neuronpedia")
def neuronpedia_command(
    output: Annotated[Path, typer.Argument(help="File to write: .jsonl or .jsonl.gz.")],
    run_folder: Run,
    model_id: Annotated[str, typer.Option("--model-id", help="Neuronpedia's name of the model: gpt2-small.")],
    source_id: Annotated[
        str, typer.Option("--source-id", help="Neuronpedia's name of the dictionary: 8-res-jb.")
    ],
    method: Annotated[
        str | None, typer.Option("--method", help="Only explanations of llm, or of lexical.")
    ] = None,
) -> None:
    """Write the run's explanations in the form that Neuronpedia imports."""
    from onesense.cli.console import note
    from onesense.errors import ConfigurationError
    from onesense.interop.neuronpedia import write_neuronpedia
    from onesense.store.catalog import Catalog
    from onesense.store.explanations import read_explanations
    from onesense.store.run_folder import RunFolder

    if method not in (None, "llm", "lexical"):
        raise ConfigurationError(f"There is no method {method!r}.", hint="Choose llm or lexical.")
    run = RunFolder.open(run_folder)
    with Catalog(run.catalog_path, read_only=True) as catalog:
        rows = read_explanations(catalog, method=method)
    written = write_neuronpedia(output, rows, model_id=model_id, source_id=source_id)
    note(f"{written:,} explanations saved to '{output}'")


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
