"""``onesense steer``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onesense.cli.choice import DictionaryChoice
    from onesense.config import Settings
    from onesense.model.hook_points import HookPoint
    from onesense.model.language_model import LanguageModel
    from onesense.sae.dictionary import Dictionary
    from onesense.steer.decoding import Sample
    from onesense.steer.edit import Edit
    from onesense.steer.generate import Generation, Sweep
    from onesense.steer.intervention import EditGroup
    from onesense.steer.recipe import Recipe

_EDITS = "Edits"
_SAMPLING = "Sampling"


def steer_command(
    model: options.Model = None,
    model_name: options.ModelName = None,
    sae_release: options.SaeRelease = None,
    sae_id: options.SaeId = None,
    sae_path: options.SaePath = None,
    layer: options.Layer = None,
    feature_id: Annotated[
        int | None,
        typer.Option("--feature-id", help="Feature. \\[env: FEATURE_TO_STEER]", rich_help_panel=_EDITS),
    ] = None,
    coeff: Annotated[
        float | None,
        typer.Option(
            "--coeff",
            help="Multiple of its decoder row to add. \\[env: STEERING_COEFF]",
            rich_help_panel=_EDITS,
        ),
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            "--edit",
            help="FEATURE:OPERATION[:VALUE[:UNIT[:WINDOW]]], such as 12:ablate or 7:clamp:2:max:generation. "
            "May be repeated.",
            rich_help_panel=_EDITS,
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Edits from a recipe file.", rich_help_panel=_EDITS)
    ] = None,
    save_recipe: Annotated[
        Path | None,
        typer.Option("--save-recipe", help="Keep the edits as a recipe file.", rich_help_panel=_EDITS),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep", help="Coefficients, such as 0,50,100: all in one batch.", rich_help_panel=_EDITS
        ),
    ] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Allow several edits of one feature.", rich_help_panel=_EDITS)
    ] = False,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Text to go on from. \\[env: STEERING_PROMPT]")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Texts on each side.")] = 3,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="Tokens of each text.")] = 50,
    unsteered: Annotated[bool, typer.Option("--unsteered/--no-unsteered", help="Also without edits.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    output_file: Annotated[
        Path | None, typer.Option("--output-file", help="Also write the JSON here.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="\\[env: STEERING_TEMP]", rich_help_panel=_SAMPLING)
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="The likeliest token at every step.", rich_help_panel=_SAMPLING)
    ] = False,
    top_k: Annotated[int | None, typer.Option("--top-k", rich_help_panel=_SAMPLING)] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", rich_help_panel=_SAMPLING)] = None,
    min_p: Annotated[float | None, typer.Option("--min-p", rich_help_panel=_SAMPLING)] = None,
    typical_p: Annotated[float | None, typer.Option("--typical-p", rich_help_panel=_SAMPLING)] = None,
    repetition_penalty: Annotated[
        float, typer.Option("--repetition-penalty", rich_help_panel=_SAMPLING)
    ] = 1.0,
    frequency_penalty: Annotated[float, typer.Option("--frequency-penalty", rich_help_panel=_SAMPLING)] = 0.0,
    no_repeat_ngram_size: Annotated[
        int | None, typer.Option("--no-repeat-ngram-size", rich_help_panel=_SAMPLING)
    ] = None,
    run_folder: options.RunFolderOption = None,
    seed: options.Seed = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    force: options.Force = False,
) -> None:
    """Push generation along features, beside the same text without."""
    from onesense.cli.choice import choose
    from onesense.config import load_settings

    settings = load_settings(
        model_name=model_name,
        sae_release=sae_release,
        sae_id=sae_id,
        layer=layer,
        feature_to_steer=feature_id,
        steering_coeff=coeff,
        steering_prompt=prompt,
        run_folder=run_folder,
        seed=seed,
        dtype=dtype,
        device=device,
        device_map=device_map,
    )
    text = _required_prompt(settings.steering_prompt)
    strengths = _coefficients(sweep)
    choice = None if recipe else choose(settings, positional_model=model, sae_path=sae_path)
    sampling_values = {
        "do_sample": not greedy,
        "temperature": temperature if temperature is not None else settings.steering_temp or 1.0,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "typical_p": typical_p,
        "repetition_penalty": repetition_penalty,
        "frequency_penalty": frequency_penalty,
        "no_repeat_ngram_size": no_repeat_ngram_size,
    }

    from onesense.cli.live import SteeredSamples
    from onesense.steer.generate import generate
    from onesense.steer.generate import sweep as run_sweep
    from onesense.steer.sampling import Sampling

    sampling = Sampling(**sampling_values)  # type: ignore[arg-type]
    loaded, edits = _edits(
        settings, choice, recipe, model, edit or [], layer, stack, swept=bool(strengths), force=force
    )
    if save_recipe is not None:
        _save(loaded, edits, save_recipe)
    common: dict[str, Any] = {
        "samples": samples,
        "max_new_tokens": max_new_tokens,
        "sampling": sampling,
        "seed": settings.seed,
        "unsteered": unsteered,
        "force": force,
    }
    done: Sweep | Generation
    if strengths:
        done = run_sweep(loaded, text, edits, strengths, **common)
        if not as_json:
            _show_sweep(done)
    else:
        done = generate(loaded, text, edits, **common, on_piece=None if as_json else SteeredSamples(text))
        if not as_json:
            _show_generation(done)
    if as_json:
        typer.echo(json.dumps(done.to_json(), ensure_ascii=False, indent=2))
    if output_file is not None:
        from onesense.store.atomic import write_json

        write_json(output_file, done.to_json(), sort_keys=False)


def _required_prompt(prompt: str | None) -> str:
    from onesense.errors import ConfigurationError

    if prompt is None:
        raise ConfigurationError("There is no prompt.", hint="Give one with --prompt or STEERING_PROMPT.")
    return prompt


def _coefficients(listed: str | None) -> list[float]:
    from onesense.errors import ConfigurationError

    try:
        return [float(one) for one in listed.split(",")] if listed else []
    except ValueError as error:
        raise ConfigurationError(
            f"--sweep {listed!r} is not a list of numbers.", hint="For example --sweep 0,50,100."
        ) from error


def _edits(
    settings: Settings,
    choice: DictionaryChoice | None,
    recipe: Path | None,
    positional_model: str | None,
    given: Sequence[str],
    layer_flag: int | None,
    stack: bool,
    *,
    swept: bool,
    force: bool,
) -> tuple[LanguageModel, Recipe | list[EditGroup]]:
    """The model, and what is done to it."""
    from onesense.model.load import load_model

    dtype = "float32" if settings.dtype == "auto" else settings.dtype
    if recipe is not None or choice is None:
        from onesense.steer.recipe import read_recipe

        read = read_recipe(recipe or Path())
        name = positional_model or settings.model_name or read.model.name
        model = load_model(name, dtype=dtype, device=settings.device, device_map=settings.device_map)
        read.check_model(model, force=force)
        return model, read
    from onesense.cli.choice import layer_disagreement
    from onesense.cli.console import warn

    parsed = _parsed_edits(settings, given, swept=swept)
    dictionary = choice.load()
    point, disagreement = layer_disagreement(dictionary, settings, layer_flag)
    if disagreement:
        warn(disagreement)
    model = load_model(choice.model, dtype=dtype, device=settings.device, device_map=settings.device_map)
    return model, [_group(model, dictionary, parsed, point, settings, stack)]


def _parsed_edits(settings: Settings, given: Sequence[str], *, swept: bool) -> list[Edit]:
    from onesense.errors import ConfigurationError
    from onesense.steer.edit import Edit
    from onesense.steer.edit_text import parse_edit

    edits = [parse_edit(one) for one in given]
    if settings.feature_to_steer is not None and (settings.steering_coeff is not None or swept):
        value = settings.steering_coeff if settings.steering_coeff is not None else 1.0
        edits.insert(0, Edit.plain(settings.feature_to_steer, 1.0 if swept else value))
    if not edits:
        raise ConfigurationError(
            "Nothing says what to steer.",
            hint="Give --feature-id and --coeff (FEATURE_TO_STEER, STEERING_COEFF), --edit, or --recipe.",
        )
    return edits


def _group(
    model: LanguageModel,
    dictionary: Dictionary,
    edits: list[Edit],
    point: HookPoint | None,
    settings: Settings,
    stack: bool,
) -> EditGroup:
    """Edits with the numbers that their units need, measured or read from a run."""
    from onesense.steer.dose import measure_mean_norm
    from onesense.steer.edit import Unit
    from onesense.steer.intervention import EditGroup

    units = {edit.unit for edit in edits}
    mean_norm = measure_mean_norm(model, point or dictionary.hook_point) if Unit.NORM in units else None
    largest: dict[int, float] = {}
    if Unit.MAX in units and settings.run_folder is not None:
        largest = _largest_activations(settings.run_folder, dictionary, edits)
    return EditGroup(dictionary, edits, point, mean_norm, largest, stack)


def _largest_activations(folder: Path, dictionary: Dictionary, edits: list[Edit]) -> dict[int, float]:
    """Largest activations that a run of this very dictionary saw."""
    from onesense.errors import IncompatibleError
    from onesense.features.contexts import Contexts
    from onesense.store.run_folder import RunFolder

    run = RunFolder.open(folder)
    made_with = run.provenance.get("inputs", {}).get("dictionary", {})
    if made_with.get("fingerprint") != dictionary.origin.fingerprint:
        raise IncompatibleError(
            f"{folder} holds a run of {made_with.get('name')}, not of {dictionary.origin.label}.",
            hint="Give the run folder of `onesense extract` for this dictionary.",
        )
    maximum = Contexts.open(run).maximum
    return {edit.feature: float(maximum[edit.feature]) for edit in edits if edit.feature < len(maximum)}


def _save(model: LanguageModel, edits: Recipe | list[EditGroup], path: Path) -> None:
    from onesense.steer.recipe import Recipe, make_recipe, write_recipe

    write_recipe(edits if isinstance(edits, Recipe) else make_recipe(model, edits), path)


def _show_generation(done: Generation) -> None:
    from onesense.cli.console import note, results, warn

    if done.unsteered:
        results.print("\nGeneration without steering:")
        _show_samples(done.prompt, done.unsteered)
    for dose in done.doses:
        if dose.relative is not None:
            note(
                f"Dose at {dose.hook_point}: {dose.relative:.2f} of the mean norm ({dose.positions} positions, "
                f"at most {dose.largest or 0:.2f})"
            )
    for warning in done.warnings:
        warn(warning)


def _show_sweep(done: Sweep) -> None:
    from onesense.cli.console import results, warn

    for step in done.steps:
        doses = ", ".join(f"{dose.relative:.2f}" for dose in step.doses if dose.relative is not None)
        results.print(f"Coefficient {step.coefficient:g}" + (f" (dose {doses})" if doses else "") + ":")
        _show_samples(done.prompt, step.samples)
        results.print("")
        for warning in step.warnings:
            warn(f"coefficient {step.coefficient:g}: {warning}")
    if done.unsteered:
        results.print("Without steering:")
        _show_samples(done.prompt, done.unsteered)


def _show_samples(prompt: str, samples: Sequence[Sample]) -> None:
    from onesense.cli.console import RULE, results, visible

    for index, sample in enumerate(samples):
        if index:
            results.print(f"\n{RULE}\n", markup=False)
        results.print(visible(prompt + sample.text), markup=False)
