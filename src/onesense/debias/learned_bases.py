"""The control that tests the claim: the same learning, on neurons, the residual basis or random directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onesense.debias.controls.bases import neuron_basis, random_directions, residual_basis
from onesense.debias.controls.signed_pairs import stored
from onesense.debias.debias_run import DebiasRun
from onesense.debias.objective import Objective
from onesense.debias.search import search_for
from onesense.debias.settings import DebiasSettings
from onesense.engine.stages import Stages
from onesense.errors import HookPointError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.sae.load import load_dictionary
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import Recipe

Basis = Callable[[LanguageModel, Dictionary, int], Dictionary]

BASES: Mapping[str, Basis] = {
    "neurons": lambda model, like, _seed: neuron_basis(model, like.hook_point.layer),
    "residual basis": lambda model, like, _seed: residual_basis(model, like.hook_point),
    "random directions": lambda model, like, seed: random_directions(
        model, like.hook_point, like.d_in, seed + like.hook_point.layer
    ),
}


def learned_recipes(
    model: LanguageModel,
    dictionaries: Sequence[Dictionary],
    folder: Path,
    settings: DebiasSettings,
    *,
    bases: Sequence[str] = tuple(BASES),
    objective: Objective | None = None,
    stages: Stages,
) -> tuple[dict[str, Recipe], list[str]]:
    """Recipes of the same find and tune, with as many units, on other bases at the same depths.

    Args:
        model: The model.
        dictionaries: Whose depths are taken.
        folder: Where each basis has a run of its own, with recipes of the budgets that were chosen so far.
        settings: Those of the run that is compared with.
        bases: Which; see ``BASES``.
        objective: That of the run that is compared with, if it was made: it keeps what comes before the first
            edit, and is used again where a basis begins at the same block.
        stages: Told about progress.

    Returns:
        The recipes by name, and what could not be done.

    Raises:
        NumericalError: NaN while tuning.
    """
    # A basis is dense, and both signs of a direction are units: the screen by density does not apply to it.
    asked = replace(
        settings,
        # Found in the same way as the features, though a basis is no top-k dictionary.
        search=search_for(settings.search, dictionaries),
        find=replace(settings.find, max_density=1.0, sentences=0),
        own_effects=False,
        senses=(),
        prompts=(),
    )
    recipes, notes = {}, []
    for name in bases:
        try:
            made = [
                kept_basis(BASES[name](model, like, settings.seed), folder / name.replace(" ", "-"), like)
                for like in dictionaries
            ]
        except (HookPointError, IncompatibleError) as error:
            notes.append(f"The same learning on {name} was left out: {error.message}")
            continue
        run = DebiasRun(model, made, folder / name.replace(" ", "-") / "run", asked, stages)
        if objective is not None and objective.start == run.start:
            run.objective = objective
        with run.run.lock():
            recipes[f"{name}, same learning"] = run.recipe(settings.choose, run.find())
    return recipes, notes


def kept_basis(basis: Dictionary, folder: Path, like: Dictionary) -> Dictionary:
    """The basis as it is read back from its folder, so that a recipe can say where it is."""
    path = folder / f"layer-{like.hook_point.layer}"
    if path.exists():
        return load_dictionary(path=path.resolve())
    return stored(EditGroup(basis, ()), path).dictionary
