"""Tuning by hand: the gender features as sliders, a quick audit after each change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from onesense.debias.forward import first_edited_block
from onesense.debias.hand_tuning import Setting, with_factors
from onesense.errors import NotFoundError, OnesenseError
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import prepare
from onesense.steer.edit import Operation
from onesense.steer.recipe import Recipe
from onesense.store.candidates import CandidateRow
from onesense.store.catalog import Catalog
from onesense.web.edits import Key
from onesense.web.pages import Pages, View
from onesense.web.service import Service, Uses
from onesense.web.streaming import stream
from onesense.web.work import Job
from onesense.web.workspace import KnownDictionary

pages = Pages()

_MOST_FACTORS = 500
_CANDIDATES = 24
_BEST = 0.01


class Factor(BaseModel):
    """What the latent of a feature is multiplied by; 1 takes the feature out of the recipe."""

    model_config = ConfigDict(extra="forbid")

    dictionary: Key
    feature: int = Field(ge=0, le=2**53)
    factor: float = Field(allow_inf_nan=False, ge=-10, le=10)


class Tuning(BaseModel):
    """A recipe with other factors."""

    model_config = ConfigDict(extra="forbid")

    recipe: str = Field(max_length=200)
    factors: list[Factor] = Field(default=[], max_length=_MOST_FACTORS)


class NewTuning(Tuning):
    """The same, to keep under a name."""

    name: str = Field(min_length=1, max_length=60)


@pages.page("/tune", "tune.html.j2")
def tune(
    uses: Uses,
    recipe: Annotated[str, Query(max_length=200)] = "",
    run: Annotated[str, Query(max_length=200)] = "",
) -> View:
    """The features of a recipe as sliders, or the recipes to choose from."""
    if run and not recipe:
        recipe = _chosen(uses, uses.workspace.run(run, "debias").id)
    if not recipe:
        return View("Tune by hand", {"recipe": None, "recipes": _listed(uses)})
    known = uses.workspace.recipe(recipe)
    read = known.read()
    features, fixed = _features(uses, read)
    more = _candidates(uses, read)
    return View(
        f"Tune {known.title}",
        {
            "recipe": {"id": known.id, "title": known.title, "run": known.run, "note": read.note},
            "model": read.model.name,
            "features": features,
            "candidates": more,
            "fixed": fixed,
        },
    )


@pages.post("/api/tune/measure", response_class=StreamingResponse)
def measure(asked: Tuning, uses: Uses) -> StreamingResponse:
    """Bias, facts and KL with these factors, with intervals, on the tune split."""
    known = uses.workspace.recipe(asked.recipe)

    def work(job: Job) -> dict[str, Any]:
        base = known.read()
        model = uses.resident.model(base.model.name)
        tuned = _tuned(uses, base, asked.factors, model)
        job.check()
        ready = prepare(model, base)
        start = min(
            [first_edited_block(ready)] + ([first_edited_block(prepare(model, tuned))] if tuned.parts else [])
        )
        audit = uses.resident.quick_audit(model.name, start)
        job.check()
        found = audit.measure(tuned)
        return {name: one._asdict() for name, one in found._asdict().items()}

    return stream(uses.queue, uses.queue.submit("tune", f"Quick audit of {known.title}", work), owned=True)


@pages.post("/api/recipes/tuned", response_class=StreamingResponse)
def save(asked: NewTuning, uses: Uses) -> StreamingResponse:
    """Keep the recipe with these factors; the last event has its id."""
    known = uses.workspace.recipe(asked.recipe)
    uses.workspace.check_recipe_name(asked.name)

    def work(job: Job) -> dict[str, Any]:
        del job
        base = known.read()
        tuned = _tuned(uses, base, asked.factors, uses.resident.model(base.model.name))
        kept = uses.workspace.save_recipe(
            asked.name, tuned.model_copy(update={"note": f"tuned by hand from {known.title}"})
        )
        return {"id": kept.id, "title": kept.title}

    return stream(uses.queue, uses.queue.submit("save", f"Saving {asked.name}", work), owned=False)


def _tuned(uses: Service, base: Recipe, factors: Sequence[Factor], model: LanguageModel) -> Recipe:
    """The recipe with these factors.

    Raises:
        IncompatibleError: It is for another model, or a dictionary is another one now.
        NotFoundError: There is no such dictionary or feature.
    """
    base.check_model(model)
    known = {one.key: one for one in uses.workspace.dictionaries()}
    missing = [one.dictionary for one in factors if one.dictionary not in known]
    if missing:
        raise NotFoundError("No run has this dictionary.", hint="Run `onesense extract` with it.")
    used = {one.dictionary: known[one.dictionary] for one in factors}
    settings = [Setting(used[one.dictionary].hook_point, one.feature, one.factor) for one in factors]
    return with_factors(base, settings, [uses.resident.dictionary(one) for one in used.values()])


def _chosen(uses: Service, run: str) -> str:
    """The recipe that a debias run chose: that of the middle budget where it can be told, else the first."""
    made = [one for one in uses.workspace.recipes() if one.run == run]
    if not made:
        raise NotFoundError("This run has no recipe yet.", hint="The command is not done; run it again.")
    best = [one for one in made if one.path.stem == f"kl-{_BEST:g}"]
    return (best or made)[0].id


def _listed(uses: Service) -> list[dict[str, Any]]:
    listed = []
    for known in uses.workspace.recipes():
        try:
            read = known.read()
        except OnesenseError as error:
            listed.append({"id": known.id, "title": known.title, "problem": error.message})
            continue
        edits = sum(len(part.edits) for part in read.parts)
        listed.append(
            {
                "id": known.id,
                "title": known.title,
                "edits": edits,
                "model": read.model.name,
                "note": read.note,
            }
        )
    return listed


def _features(uses: Service, recipe: Recipe) -> tuple[list[dict[str, Any]], int]:
    """Features whose factor can be set, those that carry most bias first, and how many edits stay as they are."""
    dictionaries = {one.fingerprint: one for one in uses.workspace.dictionaries()}
    evidence = _evidence(uses, recipe)
    found, fixed = [], 0
    for part in recipe.parts:
        known = dictionaries[part.dictionary.fingerprint]
        for edit in part.edits:
            several = sum(other.feature == edit.feature for other in part.edits) > 1
            if edit.operation is not Operation.SCALE or several:
                fixed += 1
                continue
            row = evidence.get((part.hook_point, edit.feature))
            found.append(_slider(known, edit.feature, edit.amount, row))
    return sorted(found, key=lambda one: -(one["bias"] or 0.0)), fixed


def _slider(known: KnownDictionary, feature: int, factor: float, row: CandidateRow | None) -> dict[str, Any]:
    return {
        "dictionary": known.key,
        "hook_point": known.hook_point,
        "feature": feature,
        "factor": factor,
        "run": known.extract[0] if known.extract else "",
        "promoted": list(row.promoted[:6]) if row else [],
        "bias": row.bias if row else None,
        "fact": row.fact if row else None,
        "kl": row.kl if row else None,
    }


def _evidence(uses: Service, recipe: Recipe) -> dict[tuple[str, int], CandidateRow]:
    """What debias runs with the same dictionaries know of the features."""
    wanted = {part.hook_point: part.dictionary.fingerprint for part in recipe.parts}
    found: dict[tuple[str, int], CandidateRow] = {}
    for run in uses.workspace.of_command("debias"):
        if not any(run.dictionary_at(point) == fingerprint for point, fingerprint in wanted.items()):
            continue
        try:
            with Catalog(run.path / "catalog.sqlite", read_only=True) as catalog:
                rows = catalog.candidates("bias", limit=100_000)
        except OnesenseError:
            continue
        found.update({(row.hook_point, row.feature): row for row in rows})
    return found


def _candidates(uses: Service, recipe: Recipe) -> list[dict[str, Any]]:
    """The strongest candidates that the recipe leaves alone."""
    edited = {(part.hook_point, edit.feature) for part in recipe.parts for edit in part.edits}
    dictionaries = {
        one.hook_point: one for one in uses.workspace.dictionaries() if one.model == recipe.model.name
    }
    rows = [
        row
        for place, row in _evidence(uses, recipe).items()
        if place not in edited and row.hook_point in dictionaries and row.bias is not None
    ]
    rows.sort(key=lambda row: -(row.bias or 0.0))
    return [_slider(dictionaries[row.hook_point], row.feature, 1.0, row) for row in rows[:_CANDIDATES]]
