"""``onesense debias``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onesense.cli import options

if TYPE_CHECKING:
    from onesense.debias.debias import Debiased
    from onesense.model.language_model import LanguageModel
    from onesense.sae.dictionary import Dictionary

_DEBIAS = "Debias"
_PROOF = "Proof"


def debias_command(
    model: options.Model = None,
    model_name: options.ModelName = None,
    sae_release: options.SaeRelease = None,
    sae_id: options.SaeIds = None,
    sae_path: options.SaePaths = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(
            "--budget",
            help="KL per token that a recipe may cost, in nats; one recipe for each. May be repeated. "
            "[default: 0.003, 0.01, 0.03]",
            rich_help_panel=_DEBIAS,
        ),
    ] = None,
    choose: Annotated[
        float | None,
        typer.Option(
            "--choose",
            help="The budget whose recipe is audited. [default: 0.01, or the middle one]",
            rich_help_panel=_DEBIAS,
        ),
    ] = None,
    max_features: Annotated[
        int, typer.Option("--max-features", help="Features that a recipe may edit.", rich_help_panel=_DEBIAS)
    ] = 50,
    templates: Annotated[
        int,
        typer.Option(
            "--templates",
            min=1,
            help="Templates in which find reads each occupation; other prompts and text go along. Fewer is faster, and "
            "knows less.",
            rich_help_panel=_DEBIAS,
        ),
    ] = 6,
    max_density: Annotated[
        float,
        typer.Option(
            "--max-density",
            help="Leave out features that fire at a larger share of ordinary text.",
            rich_help_panel=_DEBIAS,
        ),
    ] = 0.2,
    senses: Annotated[
        list[Path] | None,
        typer.Option(
            "--senses",
            help="Run folder of `onesense senses measure`: features with several senses are left out. "
            "One for each dictionary; may be repeated.",
            rich_help_panel=_DEBIAS,
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            help="Steps of tuning for the middle budget; the others go on from it with half as many.",
            rich_help_panel=_DEBIAS,
        ),
    ] = 24,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Of Adam, at its highest.", rich_help_panel=_DEBIAS)
    ] = 0.03,
    thresholds: Annotated[
        bool,
        typer.Option(
            "--thresholds/--no-thresholds",
            help="Also learn a threshold for each latent: weak activations are dropped, strong ones kept.",
            rich_help_panel=_DEBIAS,
        ),
    ] = False,
    search: Annotated[
        str,
        typer.Option(
            "--search",
            help="How amounts are found: gradient; trials, which need no gradient; both, one after the other; or auto: "
            "both where top-k dictionaries stand at several depths, else gradient.",
            rich_help_panel=_DEBIAS,
        ),
    ] = "auto",
    trials: Annotated[
        int,
        typer.Option(
            "--trials", help="Trials for each budget, where amounts are tried.", rich_help_panel=_DEBIAS
        ),
    ] = 60,
    text: options.Text = None,
    suite: Annotated[
        str, typer.Option("--suite", help="Held-out audit: quick, standard or full.", rich_help_panel=_PROOF)
    ] = "quick",
    controls: Annotated[
        str,
        typer.Option(
            "--controls",
            help="Compare at equal KL with: none, few (linear erasures) or all (also the same learning on neurons, "
            "the residual basis and random directions, and random features).",
            rich_help_panel=_PROOF,
        ),
    ] = "few",
    draws: Annotated[
        int, typer.Option("--draws", help="Bootstrap draws of the intervals.", rich_help_panel=_PROOF)
    ] = 10_000,
    run_folder: options.RunFolderOption = None,
    seed: options.Seed = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    check: options.Check = True,
    force: options.Force = False,
    ray: options.Ray = None,
    ray_storage: options.RayStorage = None,
    quiet: options.Quiet = False,
) -> None:
    """Find the features that carry gender bias, tune them, and prove on held-out data what happened."""
    from onesense.cli.choice import DEMO, load_to_measure, named_dictionaries, tell_dictionary
    from onesense.cli.console import Bars, note
    from onesense.config import load_settings
    from onesense.store.progress import RecordedStages

    settings = load_settings(
        model_name=model_name,
        sae_release=sae_release,
        run_folder=run_folder,
        seed=seed,
        dtype=dtype,
        device=device,
        device_map=device_map,
    )
    from onesense.bias.audit import AuditSettings
    from onesense.debias.debias import debias
    from onesense.debias.debias_memory import estimate_debias_memory
    from onesense.debias.find import FindSettings
    from onesense.debias.search import SearchSettings
    from onesense.debias.settings import DebiasSettings
    from onesense.debias.tune import TuneSettings
    from onesense.engine.choose import open_executor
    from onesense.model.tokens import describe_bos

    budgets = tuple(sorted(budget)) if budget else (0.003, 0.01, 0.03)
    audit = AuditSettings(suite=suite, draws=draws, seed=settings.seed)
    audit.chosen()  # an unknown name is told before the model is loaded
    wanted = DebiasSettings(
        budgets=budgets,
        choose=choose if choose is not None else 0.01 if 0.01 in budgets else budgets[len(budgets) // 2],
        max_features=max_features,
        thresholds=thresholds,
        find=FindSettings(
            templates=templates,
            people_templates=templates // 3,
            passages=16 * templates,
            max_density=max_density,
            text=text,
            seed=settings.seed,
        ),
        tune=TuneSettings(steps=steps, learning_rate=learning_rate),
        search=search,
        trials=SearchSettings(trials=trials),
        audit=audit,
        controls=controls,
        senses=tuple(str(one) for one in senses or ()),
        seed=settings.seed,
    )
    name = model or settings.model_name or DEMO
    dictionaries = named_dictionaries(name, settings, sae_id or [], sae_path or [])
    loaded = load_to_measure(name, settings)
    note(f"Model {loaded.name} ({loaded.family}, {loaded.n_layers} layers); {describe_bos(loaded)}")
    for dictionary in dictionaries:
        tell_dictionary(dictionary)
    memory = estimate_debias_memory(loaded, dictionaries, wanted)
    note(f"This takes {memory}")
    memory.require(force=force, hint="Give fewer or narrower dictionaries")
    if check:
        _check(loaded, dictionaries, force=force)
    folder = settings.run_folder or _folder(loaded.name, dictionaries, settings.seed)
    stages = RecordedStages(Bars(quiet=quiet), folder)
    with closing(open_executor(ray, storage=ray_storage, device=loaded.device.type)) as executor:
        found = debias(loaded, dictionaries, folder, settings=wanted, stages=stages, executor=executor)
    _show(found)


def _folder(model: str, dictionaries: list[Dictionary], seed: int) -> Path:
    from onesense.store.run_folder import folder_name

    depths = [str(one.hook_point.layer) for one in dictionaries]
    return Path("onesense-runs") / folder_name("debias", model, *depths, f"seed{seed}")


def _check(model: LanguageModel, dictionaries: list[Dictionary], *, force: bool) -> None:
    from onesense.cli.console import note, warn
    from onesense.sae.check import self_checks

    checks = self_checks(model, dictionaries, force=force)
    for dictionary, check in zip(dictionaries, checks, strict=True):
        note(f"Self-check of {dictionary.hook_point}: L0 {check.l0:.1f}, FVU {check.fvu:.3f}")
        for finding in check.findings:
            warn(finding)


def _show(found: Debiased) -> None:
    from onesense.cli.console import results
    from onesense.report.debias_html import debias_page
    from onesense.report.debias_json import write_result
    from onesense.report.debias_table import debias_table
    from onesense.steer.recipe import write_recipe
    from onesense.store.atomic import write_text

    folder = found.run.path
    write_result(found.result, folder / "result.json")
    write_text(folder / "report.html", debias_page(found.result))
    write_recipe(found.recipe, folder / "recipe.json")
    files = {
        "Report": folder / "report.html",
        "Recipe": folder / "recipe.json",
        "Everything as JSON": folder / "result.json",
    }
    results.print(debias_table(found.result, files))
