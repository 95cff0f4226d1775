"""``onesense export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from onesense.debias.export.export import Export

_FIT = "Fit of a LoRA"
_AUDIT = "Audit"


def export_command(
    recipe: Annotated[Path, typer.Argument(help="The edits, as a recipe file.")],
    to: Annotated[Path, typer.Option("--to", help="Folder of the export; must be new or empty.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="The model; the one that the recipe names by default. \\[env: MODEL_NAME]"
        ),
    ] = None,
    how: Annotated[
        str,
        typer.Option(
            "--how",
            help="auto; projection (exact, for recipes of projections); merged (a distilled LoRA in plain weights); "
            "lora (the adapter by itself); gguf (a control vector for llama.cpp, for constant directions); "
            "vllm (a steering spec, for directions); neuronpedia (vectors to upload, for constant directions).",
        ),
    ] = "auto",
    model_id: Annotated[
        str | None,
        typer.Option("--model-id", help="Neuronpedia's name of the model (--how neuronpedia): gpt2-small."),
    ] = None,
    rank: Annotated[int, typer.Option("--rank", help="Rank of the LoRA.", rich_help_panel=_FIT)] = 16,
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps.", rich_help_panel=_FIT)] = 200,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="At its peak.", rich_help_panel=_FIT)
    ] = 3e-4,
    target_kl: Annotated[
        float,
        typer.Option("--target-kl", help="KL to the recipe that should be reached.", rich_help_panel=_FIT),
    ] = 0.005,
    rows: Annotated[int, typer.Option("--rows", help="Windows of text of a step.", rich_help_panel=_FIT)] = 2,
    windows: Annotated[
        int,
        typer.Option(
            "--windows",
            help="Windows of text to fit to, at most; more steps are of no use on text that has been learned by heart.",
            rich_help_panel=_FIT,
        ),
    ] = 512,
    text: options.Text = None,
    text_field: options.TextField = "text",
    audit: Annotated[
        str | None,
        typer.Option(
            "--audit",
            help="Audit the export itself by this suite (quick, standard, full) and record it.",
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark", help="Audit by this benchmark only. May be repeated.", rich_help_panel=_AUDIT
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", help="Bootstrap draws of the intervals.", rich_help_panel=_AUDIT)
    ] = 10_000,
    recipe_audit: Annotated[
        Path | None,
        typer.Option(
            "--recipe-audit",
            help="audit.json of the recipe (onesense audit --recipe), for the table of the model card.",
            rich_help_panel=_AUDIT,
        ),
    ] = None,
    seed: options.Seed = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn a recipe into what other software loads, and measure how close it is: weights, an adapter, vectors."""
    from onesense.cli.console import Bars, note
    from onesense.config import load_settings

    settings = load_settings(model_name=model, seed=seed, dtype=dtype, device=device)
    from onesense.bias.audit import AuditSettings
    from onesense.debias.export.distillation import DistillationSettings
    from onesense.debias.export.export import ExportSettings, export_model, require_free
    from onesense.debias.export.texts import TextSettings
    from onesense.model.load import load_model
    from onesense.report.audit_json import read_audit
    from onesense.steer.recipe import read_recipe

    require_free(to)
    audited = None
    if audit is not None or benchmark:
        audited = AuditSettings(
            suite=audit or "quick", benchmarks=tuple(benchmark or ()), draws=draws, seed=settings.seed
        )
        audited.chosen()  # an unknown name is told before the model is loaded
    chosen = ExportSettings(
        how=how,
        distillation=DistillationSettings(
            rank=rank,
            steps=steps,
            learning_rate=learning_rate,
            rows=rows,
            target_kl=target_kl,
            seed=settings.seed,
        ),
        text=TextSettings(source=text, field=text_field, fit_windows=windows),
        audit=audited,
        force=force,
        model_id=model_id,
    )
    edits = read_recipe(recipe)
    before_and_after = None if recipe_audit is None else read_audit(recipe_audit)
    loaded = load_model(
        settings.model_name or edits.model.name,
        dtype="float32" if settings.dtype == "auto" else settings.dtype,
        device=settings.device,
    )
    note(f"Model {loaded.name} ({loaded.family}, {loaded.n_layers} layers)")
    made = export_model(
        loaded, edits, to, settings=chosen, recipe_audit=before_and_after, stages=Bars(quiet=quiet)
    )
    _show(made)


def _show(made: Export) -> None:
    from onesense.cli.console import note, results, warn

    found, prompts = made.manifest.divergence, made.manifest.prompt_divergence
    results.print(f"Exported as {made.kind} to {made.folder}", markup=False)
    results.print(
        f"KL to the recipe: {found.kl:.2g} nats per token over {found.tokens:,} tokens "
        f"(the unedited model: {found.unedited:.2g})"
    )
    if prompts is not None:
        results.print(
            f"At the end of {prompts.tokens} prompts: {prompts.kl:.2g} (the unedited model: {prompts.unedited:.2g})"
        )
    fitting = made.manifest.fitting
    if fitting is not None and not made.within_target:
        warn(
            f"The KL is above the target of {fitting.settings.target_kl:g}. More --steps or a higher --rank may help."
        )
    if found.kl > found.unedited:
        warn("The export is farther from the recipe than the unedited model is.")
    if fitting is not None and fitting.recoveries:
        warn(f"The loss was not finite {fitting.recoveries} times; the last good step was restored.")
    note(f"Check it with: onesense verify {made.folder}")
