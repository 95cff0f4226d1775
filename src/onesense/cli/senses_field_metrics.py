"""``onesense senses field-metrics``: what published measures say of a dictionary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from onesense.senses.field_metrics.all_metrics import FieldMetrics
    from onesense.senses.field_metrics.estimate import Estimate
    from onesense.senses.field_metrics.text_activations import Pooling
    from onesense.senses.field_metrics.word_pairs import WordPair

_METRICS = "Metrics"


def field_metrics_command(
    model: options.Model = None,
    model_name: options.ModelName = None,
    sae_release: options.SaeRelease = None,
    sae_id: options.SaeId = None,
    sae_path: options.SaePath = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            help="Which, with commas: fms, probing, decoder-cosine, meta, ps-eval.",
            show_default="all; ps-eval where word pairs are given",
            rich_help_panel=_METRICS,
        ),
    ] = None,
    word_pairs: Annotated[
        Path | None,
        typer.Option(
            "--word-pairs",
            help="For PS-Eval: .jsonl or .tsv with word, sentence_1, sentence_2, label (same or different).",
            rich_help_panel=_METRICS,
        ),
    ] = None,
    pooling: Annotated[
        str,
        typer.Option(
            "--pooling",
            help="How the tokens of a text about a woman or a man become one: mean, max, last.",
            rich_help_panel=_METRICS,
        ),
    ] = "mean",
    draws: Annotated[
        int, typer.Option("--draws", help="Bootstrap draws of the intervals.", rich_help_panel=_METRICS)
    ] = 2000,
    text: options.Text = None,
    text_field: options.TextField = "text",
    max_tokens: Annotated[
        int,
        typer.Option(
            "--max-tokens", help="Tokens to see which features are live, where the release does not say so."
        ),
    ] = 20_000,
    output: Annotated[Path | None, typer.Option("--output", help="JSON file to write.")] = None,
    check: options.Check = True,
    seed: options.Seed = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a dictionary as others do: FMS and probing of gender, decoder cosines, meta dictionary, PS-Eval."""
    from onesense.cli.choice import choose, load_to_measure, tell_dictionary
    from onesense.cli.console import Bars, note
    from onesense.config import load_settings

    settings = load_settings(
        model_name=model_name,
        sae_release=sae_release,
        sae_id=sae_id,
        seed=seed,
        dtype=dtype,
        device=device,
        device_map=device_map,
    )
    choice = choose(settings, positional_model=model, sae_path=sae_path)
    from onesense.bias.gender_texts import gender_texts
    from onesense.sae.check import self_check
    from onesense.senses.field_metrics.all_metrics import FieldSettings, field_metrics
    from onesense.senses.field_metrics.estimate import check_draws
    from onesense.store.atomic import write_json

    pairs = _pairs(metrics, word_pairs)
    chosen = FieldSettings(
        metrics=_named(metrics, pairs),
        pooling=_pooling(pooling),
        tokens=max_tokens,
        text=text,
        text_field=text_field,
        draws=draws,
        seed=settings.seed,
    )
    check_draws(draws, settings.seed)
    dictionary = choice.load()
    loaded = load_to_measure(choice.model, settings)
    tell_dictionary(dictionary)
    stages = Bars(quiet=quiet)
    if check and loaded.tokenizer is not None:
        with stages.stage("Checking the dictionary", "tokens"):
            self_check(loaded, dictionary, None, force=force)
    found = field_metrics(loaded, dictionary, chosen, labelled=gender_texts(), pairs=pairs, stages=stages)
    _show(found)
    if output is not None:
        write_json(output, {"model": loaded.name, "dictionary": dictionary.origin.label, **found.to_json()})
        note(f"Everything as JSON: {output}")


def _pairs(metrics: str | None, path: Path | None) -> list[WordPair]:
    from onesense.errors import ConfigurationError
    from onesense.senses.field_metrics.all_metrics import PS_EVAL
    from onesense.senses.field_metrics.word_pairs import read_word_pairs

    wanted = metrics is None or PS_EVAL in _split(metrics)
    if path is None:
        if metrics is not None and wanted:
            raise ConfigurationError(
                "PS-Eval takes words in pairs of sentences, and none were given.",
                hint=f"Give them with --word-pairs FILE, or leave {PS_EVAL} out.",
            )
        return []
    if not wanted:
        raise ConfigurationError(
            f"Word pairs were given, but --metrics leaves {PS_EVAL} out, which alone reads them.",
            hint=f"Add {PS_EVAL} to --metrics, or leave --word-pairs out.",
        )
    return read_word_pairs(path)


def _named(metrics: str | None, pairs: list[WordPair]) -> tuple[str, ...]:
    from onesense.senses.field_metrics.all_metrics import METRICS, PS_EVAL

    if metrics is None:
        return tuple(one for one in METRICS if one != PS_EVAL or pairs)
    return tuple(_split(metrics))


def _split(metrics: str) -> list[str]:
    return list(dict.fromkeys(one.strip() for one in metrics.split(",") if one.strip()))


def _pooling(name: str) -> Pooling:
    from onesense.errors import ConfigurationError
    from onesense.senses.field_metrics.text_activations import Pooling

    if name not in list(Pooling):
        raise ConfigurationError(f"There is no pooling {name!r}.", hint=f"Choose: {', '.join(Pooling)}.")
    return Pooling(name)


def _show(found: FieldMetrics) -> None:
    from rich.table import Table

    from onesense.cli.console import note, results

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("metric", no_wrap=True)
    table.add_column("of it", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for row in found.rows():
        table.add_row(row.metric, row.name, *_cells(row.value))
    results.print(table)
    if found.live is not None:
        note(f"{found.live:,} of {found.features:,} features are live.")
    if found.polysemy is not None:
        told = found.polysemy
        note(f"PS-Eval: {told.pairs} pairs of {told.words} words; in {told.silent} no feature fires.")
        if told.too_long:
            note(f"{told.too_long} pairs were left out: the word ends beyond the model's context.")


def _cells(value: Estimate | float) -> tuple[str, str]:
    from math import isfinite

    number = value if isinstance(value, float) else value.value
    shown = f"{number:.3f}" if isfinite(number) else "?"
    if isinstance(value, float) or not isfinite(value.low):
        return shown, ""
    return shown, f"[{value.low:.3f}, {value.high:.3f}]"
