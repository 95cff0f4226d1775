"""Tuning by hand: the gender features as sliders, a quick audit after each change, and what is kept."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from onesense.bias.scoring.passes import first_block
from onesense.errors import NotFoundError, OnesenseError
from onesense.model.hook_points import HookPoint
from onesense.steer.recipe import Recipe, read_recipe
from onesense.web.pages import Pages, View
from onesense.web.service import Service, Uses
from onesense.web.streaming import stream
from onesense.web.tuning import Tuning, audit_command, command_of, sliders, tuned
from onesense.web.work import Job
from onesense.web.workspace import KnownRecipe, KnownRun

pages = Pages()

_CHOSEN = "recipe.json"


class NewTuning(Tuning):
    """The same, to keep under a name."""

    name: str = Field(min_length=1, max_length=60)


@pages.page("/tune", "tune.html.j2")
def tune(
    uses: Uses,
    recipe: Annotated[str, Query(max_length=200)] = "",
    run: Annotated[str, Query(max_length=200)] = "",
    draft: bool = False,
    model: Annotated[str, Query(max_length=500)] = "",
) -> View:
    """The features of a recipe as sliders, or the recipes to choose from."""
    if recipe or run:
        known = uses.workspace.recipe(recipe) if recipe else _chosen(uses, uses.workspace.run(run, "debias"))
        read = known.read()
        return View(
            f"Tune {known.title}",
            {
                "recipe": {
                    "id": known.id,
                    "title": known.title,
                    "run": known.run,
                    "note": read.note,
                    "hash": read.content_hash,
                },
                "draft": False,
                "model": read.model.name,
                **sliders(uses, read.model.name, known, read),
            },
        )
    if draft:
        names = [one.model for one in uses.workspace.dictionaries()]
        name = model if model in names else (names or [""])[0]
        data = {"recipe": None, "draft": True, "model": name, **sliders(uses, name, None, None)}
        return View("Tune the recipe in the making", data)
    return View("Tune by hand", {"recipe": None, "draft": False, "recipes": _listed(uses)})


@pages.post("/api/tune/measure", response_class=StreamingResponse)
def measure(asked: Tuning, uses: Uses) -> StreamingResponse:
    """Bias, facts and KL with these factors, with intervals, on the tune split."""
    title = "a draft" if asked.recipe is None else uses.workspace.recipe(asked.recipe).title

    def work(job: Job) -> dict[str, Any]:
        return _measured(uses, asked, job)

    return stream(uses.queue, uses.queue.submit("tune", f"Quick audit of {title}", work), owned=True)


@pages.post("/api/recipes/tuned", response_class=StreamingResponse)
def save(asked: NewTuning, uses: Uses) -> StreamingResponse:
    """Keep the recipe with these factors; the last event has its id, and how a shell goes on with it."""
    if asked.recipe is not None:
        uses.workspace.recipe(asked.recipe)
    uses.workspace.check_recipe_name(asked.name)

    def work(job: Job) -> dict[str, Any]:
        made = tuned(uses, asked)
        job.check()
        begun = "a draft" if made.known is None else made.known.title
        recipe = made.recipe.model_copy(update={"note": f"tuned by hand from {begun}"})
        kept = uses.workspace.save_recipe(asked.name, recipe)
        return {
            "id": kept.id,
            "title": kept.title,
            "edits": sum(len(part.edits) for part in recipe.parts),
            "tune_command": command_of(made, asked.name),
            "audit_command": audit_command(recipe, kept),
        }

    return stream(uses.queue, uses.queue.submit("save", f"Saving {asked.name}", work), owned=False)


def _measured(uses: Service, asked: Tuning, job: Job) -> dict[str, Any]:
    began = time.monotonic()
    made = tuned(uses, asked)
    job.check()
    known = {one.fingerprint: one for one in uses.workspace.dictionaries()}
    fingerprints = {part.dictionary.fingerprint for part in made.recipe.parts}
    dictionaries = {one: uses.resident.dictionary(known[one]) for one in fingerprints if one in known}

    def told(title: str) -> None:
        with job.stage(title, ""):
            pass

    audit = uses.resident.quick_audit(made.base.model.name, _first_block(made.base, made.recipe), told)
    job.check()
    groups = made.recipe.groups(audit.model, dictionaries)
    found = audit.measure(groups, check=job.check)
    return {
        "measures": {name: one._asdict() for name, one in found._asdict().items()},
        "sizes": audit.sizes._asdict(),
        "seconds": time.monotonic() - began,
    }


def _first_block(*recipes: Recipe) -> int:
    """The first block that an edit of some recipes changes."""
    points = [HookPoint.parse(part.hook_point) for recipe in recipes for part in recipe.parts]
    return min((first_block(point) for point in points), default=0)


def _chosen(uses: Service, run: KnownRun) -> KnownRecipe:
    """The recipe that a debias run chose, or its first where it is not done choosing.

    Raises:
        NotFoundError: It has made none yet.
    """
    made = [one for one in uses.workspace.recipes() if one.run == run.id]
    if not made:
        raise NotFoundError("This run has no recipe yet.", hint="The command is not done; run it again.")
    try:
        wanted = read_recipe(run.path / _CHOSEN).content_hash
        return next(one for one in made if one.read().content_hash == wanted)
    except (OnesenseError, StopIteration):
        return made[0]


def _listed(uses: Service) -> list[dict[str, Any]]:
    runs = {one.id: one.path.name for one in uses.workspace.of_command("debias")}
    listed = []
    for known in uses.workspace.recipes():
        source = f"debias run {runs[known.run]}" if known.run in runs else "saved by hand"
        shown: dict[str, Any] = {"id": known.id, "title": known.title, "source": source, "problem": ""}
        try:
            read = known.read()
        except OnesenseError as error:
            listed.append({**shown, "problem": error.message})
            continue
        edits = sum(len(part.edits) for part in read.parts)
        listed.append({**shown, "edits": edits, "model": read.model.name, "note": read.note})
    return listed
