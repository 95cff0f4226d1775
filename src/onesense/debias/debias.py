"""The whole chain: find the gender features, tune them, prove what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onesense.bias.audit import Audit
from onesense.debias.candidate_catalog import write_candidates
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.debias_run import DebiasRun
from onesense.debias.describe import describe, strongest
from onesense.debias.edited_features import edited_features
from onesense.debias.find import Found
from onesense.debias.learned_bases import learned_recipes
from onesense.debias.proof.benchmarks import proof_benchmarks
from onesense.debias.proof.prove import prove
from onesense.debias.proof.settings import ProofSettings
from onesense.debias.proof.variants import ERASURE, KINDS, SANITY
from onesense.debias.results import DebiasResult, Proof
from onesense.debias.settings import DebiasSettings
from onesense.engine.executor import Executor
from onesense.engine.stages import Silent, Stages
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.recipe import Recipe
from onesense.store.run_folder import RunFolder

_CANDIDATES = 100
_PASSAGES, _TOKENS = 12, 48
_FEW = ("difference of means", "LEACE")


@dataclass(frozen=True, eq=False)
class Debiased:
    """What ``debias`` gives.

    Attributes:
        run: The run folder.
        recipe: The chosen recipe.
        result: Everything that the run says.
        audit: The held-out audit of the chosen recipe.
    """

    run: RunFolder
    recipe: Recipe
    result: DebiasResult
    audit: Audit


def debias(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    run_folder: Path | str,
    *,
    settings: DebiasSettings | None = None,
    stages: Stages | None = None,
    executor: Executor | None = None,
) -> Debiased:
    """Find the features that carry gender bias, tune them, and audit the result on held-out data.

    An interrupted call goes on where it stopped and ends in the same recipes.

    Args:
        model: The model, in float32.
        dictionaries: One for each hook point; several depths do better than one.
        run_folder: Where results go; made if it does not exist.
        settings: What is wanted.
        stages: Told about progress.
        executor: Where the held-out audit and the controls are measured; None: here. Results do not depend on it.

    Raises:
        ConfigurationError: No bias can be detected, no feature is left, or settings that cannot be used.
        IncompatibleError: A dictionary does not fit the model, weights of the model are offloaded, or the folder holds
            another run.
        NumericalError: NaN while tuning.
        LockedError: Another process writes there.
    """
    model.require_gradients()
    stages, settings = stages or Silent(), settings or DebiasSettings()
    work = DebiasRun(model, dictionaries, run_folder, settings, stages, executor)
    with work.run.lock():
        found = work.find()
        work.refuse_without_bias(found)
        recipes = [work.recipe(budget, found) for budget in work.settings.budgets]
        front = work.front(recipes)
        chosen = work.settings.budgets.index(work.settings.choose)
        edited, complete = edited_features(work, recipes[chosen], found)
        candidates = describe(model, work.dictionaries, found, strongest(found, _CANDIDATES), work.screen)
        write_candidates(work.run, candidates, edited)
        texts = work.texts(recipes[chosen])
        audited = work.audit(recipes[chosen])
        proof = _proof(work, recipes[chosen], found, audited)
    result = DebiasResult(
        model=model.name,
        dictionaries={one.hook_point.name: one.origin.label for one in work.dictionaries},
        splits=work.splits(found),
        screened=work.screened(found),
        candidates=tuple(candidates),
        front=tuple(front),
        chosen=chosen,
        edited=tuple(edited),
        complete=complete,
        audit=audited.result,
        proof=proof,
        texts=tuple(texts),
        settings=work.described_settings(),
        seconds=work.seconds,
        notes=work.notes(audited.result),
    )
    return Debiased(work.run, recipes[chosen], result, audited)


def _proof(work: DebiasRun, recipe: Recipe, found: Found, audited: Audit) -> Proof | None:
    """The recipe against controls, as many as are asked for; what the audit measured is not measured again."""
    settings = work.settings
    if settings.controls == "none":
        return None
    every = settings.controls == "all"
    folder = work.run.path / f"proof-{settings.controls}-{recipe.content_hash[:8]}"
    learned: dict[str, Recipe] = {}
    notes: list[str] = []
    where = ", all points" if len(recipe.parts) > 1 else " at"
    with work.timed("controls"):
        if every:
            learned, notes = learned_recipes(
                work.model,
                work.dictionaries,
                work.run.path / "learned",
                settings,
                objective=work.objective,
                stages=work.stages,
            )
        proof = prove(
            work.model,
            recipe,
            folder,
            dictionaries={one.hook_point.name: one for one in work.dictionaries},
            densities=work.densities(found),
            learned=learned,
            settings=ProofSettings(
                kinds=KINDS if every else (SANITY, ERASURE),
                only=() if every else ("identity", *(name + where for name in _FEW)),
                draws=settings.control_draws,
                benchmarks=proof_benchmarks(quick=not every),
                calibration=calibration_requests(
                    work.model, passages=_PASSAGES, tokens=_TOKENS, source=settings.find.text
                ),
                bootstrap_draws=settings.audit.draws,
                seed=settings.seed,
            ),
            scored=audited.scored,
            stages=work.stages,
            executor=work.executor,
        )
    return replace(proof, notes=(*proof.notes, *notes))
