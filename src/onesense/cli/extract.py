"""``onesense extract``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from onesense.config import Settings
    from onesense.engine.stages import Stages
    from onesense.features.extract import Extraction
    from onesense.sae.dictionary import Dictionary

_SHOWN = 5


def extract_command(
    model: options.Model = None,
    model_name: options.ModelName = None,
    sae_release: options.SaeRelease = None,
    sae_id: options.SaeIds = None,
    sae_path: options.SaePaths = None,
    layer: options.Layer = None,
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output-file", help="Also write the table as the original's JSON. \\[env: TOP_ACTIVATIONS_FILE]"
        ),
    ] = None,
    lens: Annotated[
        str, typer.Option("--lens", help="folded (centred, norm's gain folded in) or raw.")
    ] = "folded",
    lens_dtype: Annotated[str, typer.Option("--lens-dtype", help="float32 or bfloat16.")] = "float32",
    top_k: Annotated[int, typer.Option("--top-k", help="Tokens kept at each end of the lens.")] = 10,
    contexts: Annotated[
        bool, typer.Option("--contexts/--no-contexts", help="Read text for contexts.")
    ] = True,
    top_contexts: Annotated[
        int, typer.Option("--top-contexts", help="Strongest contexts kept a feature.")
    ] = 20,
    text: options.Text = None,
    text_field: options.TextField = "text",
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Stop after so many tokens.")] = None,
    context_size: Annotated[
        int | None, typer.Option("--context-size", help="Tokens the model sees at once.")
    ] = None,
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
    """Say of every feature what it promotes, how its logits are spread, and where it fires.

    Several dictionaries of a model are read in one pass over the text, each into a run folder of its own.
    """
    from onesense.cli.choice import DEMO, choose, named_dictionaries, tell_dictionary
    from onesense.cli.console import note
    from onesense.config import load_settings

    settings = load_settings(
        model_name=model_name,
        sae_release=sae_release,
        sae_id=sae_id[0] if sae_id else None,
        layer=layer,
        top_activations_file=output_file,
        run_folder=run_folder,
        seed=seed,
        dtype=dtype,
        device=device,
        device_map=device_map,
    )
    ids, paths = sae_id or [], sae_path or []
    name = model or settings.model_name or DEMO
    if len(ids) > 1 or len(paths) > 1:
        _refuse_one_file(settings.top_activations_file)
        dictionaries = named_dictionaries(name, settings, ids, paths)
    else:
        path = paths[0] if paths else None
        dictionaries = [choose(settings, positional_model=model, sae_path=path).load()]

    from onesense.engine.choose import open_executor
    from onesense.features.contexts import ContextSettings
    from onesense.features.extract import ExtractSettings, extract_together, write_original_json
    from onesense.features.extract_memory import estimate_memory, require_memory
    from onesense.model.load import load_model
    from onesense.model.tokens import describe_bos

    chosen = ExtractSettings(
        lens=lens,  # type: ignore[arg-type]
        lens_dtype=lens_dtype,  # type: ignore[arg-type]
        top_k=top_k,
        with_contexts=contexts,
        text=text,
        text_field=text_field,
        dtype=settings.dtype,
        contexts=ContextSettings(
            context_size=context_size, top_k=top_contexts, max_tokens=max_tokens, seed=settings.seed
        ),
        check=check,
        force=force,
    )
    for dictionary in dictionaries:
        _tell_of_another_layer(dictionary, settings)
    loaded = load_model(name, dtype="float32", device=settings.device, device_map=settings.device_map)
    note(f"Model {loaded.name} ({loaded.family}, {loaded.n_layers} layers); {describe_bos(loaded)}")
    for dictionary in dictionaries:
        tell_dictionary(dictionary)
    memory = estimate_memory(loaded, dictionaries, chosen)
    note(f"This takes {memory}")
    require_memory(memory, force=force)
    folders = _folders(settings.run_folder, loaded.name, dictionaries)
    wanted = list(zip(dictionaries, folders, strict=True))
    with closing(open_executor(ray, storage=ray_storage, device=loaded.device.type)) as executor:
        found = extract_together(loaded, wanted, chosen, stages=_recorded(folders, quiet), executor=executor)
    if settings.top_activations_file is not None:
        write_original_json(found[0], settings.top_activations_file)
    for extraction in found:
        _show(extraction)
        note(f"Run folder: {extraction.run.path}")
    if settings.top_activations_file is not None:
        note(f"Results saved to '{settings.top_activations_file}'")


def _refuse_one_file(path: Path | None) -> None:
    from onesense.errors import ConfigurationError

    if path is not None:
        raise ConfigurationError(
            "One file cannot hold the tables of several dictionaries.",
            hint="Leave --output-file (TOP_ACTIVATIONS_FILE) out, or extract them one by one.",
        )


def _tell_of_another_layer(dictionary: Dictionary, settings: Settings) -> None:
    from onesense.cli.choice import layer_disagreement
    from onesense.cli.console import warn

    _, disagreement = layer_disagreement(dictionary, settings, None)
    if disagreement:
        warn(
            f"Layer {settings.layer} was given, but the dictionary was trained at {dictionary.hook_point}: "
            "extraction reads it there."
        )


def _folders(chosen: Path | None, model: str, dictionaries: Sequence[Dictionary]) -> list[Path]:
    """A run folder for each dictionary: the chosen one, or below it where there are several."""
    from onesense.store.run_folder import folder_name

    if chosen is not None and len(dictionaries) == 1:
        return [chosen]
    parent = chosen or Path("onesense-runs")
    return [parent / folder_name("extract", model, one.origin.label) for one in dictionaries]


def _recorded(folders: Sequence[Path], quiet: bool) -> Stages:
    """Progress on the screen, and in every run folder for whoever looks on."""
    from onesense.cli.console import Bars
    from onesense.store.progress import RecordedStages

    stages: Stages = Bars(quiet=quiet)
    for folder in folders:
        stages = RecordedStages(stages, folder)
    return stages


def _show(extraction: Extraction) -> None:
    from rich.table import Table

    from onesense.cli.console import cell, note, results, warn

    if extraction.check is not None:
        check = extraction.check
        note(f"Self-check on {check.tokens:,} tokens: L0 {check.l0:.1f}, FVU {check.fvu:.3f}")
        for finding in check.findings:
            warn(finding)
    count = extraction.lens.n_features
    shown = range(count) if count <= 2 * _SHOWN else [*range(_SHOWN), *range(count - _SHOWN, count)]
    table = Table(box=None, header_style="bold", pad_edge=False)
    widths = {"feature": 7, "mean": 9, "std": 6, "skewness": 8, "kurtosis": 8, "sparsity": 8, "density": 7}
    for name, width in widths.items():
        table.add_column(name, justify="right", no_wrap=True, min_width=width)
    table.add_column("top_activated_words", no_wrap=True, overflow="ellipsis")
    for feature in shown:
        lens = extraction.lens
        density = "" if extraction.contexts is None else f"{extraction.contexts.density[feature]:.2%}"
        numbers = [lens.mean[feature], lens.std[feature], lens.skewness[feature], lens.kurtosis[feature]]
        words = " ".join(lens.words(feature, extraction.vocabulary))
        table.add_row(
            str(feature),
            f"{numbers[0]:.2e}",
            *(f"{number:.4f}" for number in numbers[1:]),
            f"{extraction.sparsity[feature]:.3f}",
            density,
            cell(words, 60),
        )
        if feature == _SHOWN - 1 and count > 2 * _SHOWN:
            table.add_row(*["…"] * 8)
    results.print(table)
    results.print(f"\n[{count} rows x 7 columns]", markup=False)
