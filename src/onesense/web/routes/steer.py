"""Steering: edits with sliders, texts with and without them, a sweep, recipes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from onesense.errors import ConfigurationError, NotFoundError, OnesenseError
from onesense.steer.edit import Edit, Operation
from onesense.steer.edit_text import parse_edit
from onesense.steer.generate import Piece, generate, sweep
from onesense.steer.recipe import Recipe, make_recipe
from onesense.steer.sampling import Sampling
from onesense.store.catalog import Catalog
from onesense.store.feature_columns import ShownFeature, read_shown
from onesense.web.edits import (
    Edits,
    Key,
    edit_groups,
    largest_activation,
    model_of,
    run_with_contexts,
)
from onesense.web.pages import Pages, View, json_answer
from onesense.web.service import Service, Uses
from onesense.web.steer_code import Steered, as_command, as_python
from onesense.web.streaming import stream
from onesense.web.work import Job
from onesense.web.workspace import KnownDictionary, KnownRecipe

pages = Pages()

_OPERATIONS = {
    Operation.DIRECTION_ADD: "Adds the feature’s decoder row to the activation, whether the feature fires or not.",
    Operation.SCALE: "Multiplies the feature’s activation: 0 turns it off, 1 leaves it alone, −1 turns it around.",
    Operation.ABLATE: "Sets the feature’s activation to 0.",
    Operation.CLAMP: "Sets the feature’s activation to this, whatever it was.",
    Operation.ADD: "Adds this to the feature’s activation, which does not go below 0.",
    Operation.CAP: "Keeps the feature’s activation from going above this.",
    Operation.FLOOR: "Keeps the feature’s activation from going below this.",
    Operation.PROJECT_OUT: "Takes this share of the activation’s component along the decoder row away: 1 leaves none.",
}
_MOST_OFFERED = 50
_MOST_DIGITS = 16
_LARGEST_ID = 2**53
_MOST_SEED = 2**32 - 1

Finite = Annotated[float, Field(allow_inf_nan=False)]


class SamplingRequest(BaseModel):
    """How tokens are chosen; see ``onesense.steer.sampling.Sampling``."""

    model_config = ConfigDict(extra="forbid")

    do_sample: bool = True
    temperature: Finite = Field(default=1.0, gt=0, le=10)
    top_k: int | None = Field(default=None, ge=1, le=1_000_000)
    top_p: Finite | None = Field(default=None, gt=0, le=1)
    min_p: Finite | None = Field(default=None, gt=0, le=1)
    repetition_penalty: Finite = Field(default=1.0, ge=1, le=10)


class SteerRequest(BaseModel):
    """Texts that are wanted, and the edits of one side of them."""

    model_config = ConfigDict(extra="forbid")

    edits: Edits = []
    prompt: str = Field(min_length=1, max_length=8000)
    samples: int = Field(default=1, ge=1, le=4)
    max_new_tokens: int = Field(default=50, ge=1, le=256)
    sampling: SamplingRequest = SamplingRequest()
    seed: int = Field(default=0, ge=0, le=_MOST_SEED)

    def options(self) -> dict[str, Any]:
        """What ``generate`` and ``sweep`` both take."""
        return {
            "samples": self.samples,
            "max_new_tokens": self.max_new_tokens,
            "sampling": Sampling(**self.sampling.model_dump()),
            "seed": self.seed,
        }


class SweepRequest(SteerRequest):
    """The same edits at several strengths: each coefficient multiplies every value."""

    coefficients: list[Finite] = Field(min_length=1, max_length=12)


class CodeRequest(SteerRequest):
    """What is wanted as a command and as Python; with coefficients it is a sweep."""

    coefficients: list[Finite] = Field(default=[], max_length=12)


class NewRecipe(BaseModel):
    """Edits to keep under a name."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=60)
    edits: Edits = Field(min_length=1)


@pages.page("/steer", "steer.html.j2")
def steer(
    uses: Uses,
    edit: Annotated[list[str] | None, Query(max_length=_MOST_OFFERED)] = None,
    prompt: Annotated[str, Query(max_length=8000)] = "",
    seed: Annotated[int, Query(ge=0, le=_MOST_SEED)] = 0,
    recipe: Annotated[str, Query(max_length=200)] = "",
) -> View:
    """The recipe in the making, and what it does to a text."""
    offered = [_offered(uses, one) for one in edit or []]
    if recipe:
        offered += _edits_of(uses, recipe)
    dictionaries = uses.workspace.dictionaries()
    return View(
        "Steer",
        {
            "dictionaries": [
                {"key": one.key, "label": one.label, "hook_point": one.hook_point, "model": one.model,
                 "runs": list(one.extract)}
                for one in dictionaries
            ],
            "recipes": [{"id": one.id, "title": one.title} for one in uses.workspace.recipes()],
            "operations": {str(name): words for name, words in _OPERATIONS.items()},
            "offered": offered,
            "prompt": prompt,
            "seed": seed,
        },
    )  # fmt: skip


@pages.get("/api/edits/describe", response_model=None)
def describe(
    dictionary: Key, feature: Annotated[int, Query(ge=0, le=_LARGEST_ID)], uses: Uses
) -> JSONResponse:
    """What the editor must know of a feature: its words, and what its units are."""
    known = uses.workspace.dictionary(dictionary)
    loaded = uses.resident.dictionary(known)
    if feature >= loaded.d_sae:
        raise NotFoundError(
            f"There is no feature {feature}.", hint=f"Features go from 0 to {loaded.d_sae - 1}."
        )
    return json_answer(
        {
            **_draft(uses, known, feature),
            "row_norm": float(loaded.decoder_norms[feature]),
            "max_activation": largest_activation(uses, known, feature),
            "mean_norm": uses.resident.known_norm(known.model, known.hook_point),
        }
    )


@pages.get("/api/features/search", response_model=None)
def search(
    dictionary: Key, uses: Uses, q: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=50)] = 10,
) -> JSONResponse:  # fmt: skip
    """Features of a dictionary whose words match, for adding one."""
    known = uses.workspace.dictionary(dictionary)
    if not known.extract:
        return json_answer({"features": []})
    run = uses.workspace.run(known.extract[0], "extract")
    with Catalog(run.open().catalog_path, read_only=True) as catalog:
        number = q.isdecimal() and len(q) < _MOST_DIGITS
        ids = [int(q)] if number else [row.feature for row in catalog.search(q, limit)]
        rows = read_shown(catalog, ids)
    return json_answer({"features": [{"feature": row.feature, "label": _words(row)} for row in rows]})


@pages.post("/api/steer", response_class=StreamingResponse)
def start(asked: SteerRequest, uses: Uses) -> StreamingResponse:
    """Texts with and without the edits, as they come."""
    name = model_of(uses, asked.edits)

    def work(job: Job) -> dict[str, Any]:
        model, groups = uses.resident.model(name), edit_groups(uses, asked.edits)
        job.check()
        made = generate(
            model, asked.prompt, groups, **asked.options(), on_piece=_teller(job), cancel=job.cancel,
        )  # fmt: skip
        job.check()
        return made.to_json()

    return stream(
        uses.queue, uses.queue.submit("steer", f"Steering: {_short(asked.prompt)}", work), owned=True
    )


@pages.post("/api/sweep", response_class=StreamingResponse)
def start_sweep(asked: SweepRequest, uses: Uses) -> StreamingResponse:
    """Texts at several strengths, as they come."""
    name = model_of(uses, asked.edits)

    def work(job: Job) -> dict[str, Any]:
        model, groups = uses.resident.model(name), edit_groups(uses, asked.edits)
        job.check()
        made = sweep(
            model, asked.prompt, groups, asked.coefficients, **asked.options(), on_piece=_teller(job),
            cancel=job.cancel,
        )  # fmt: skip
        job.check()
        return made.to_json()

    return stream(uses.queue, uses.queue.submit("sweep", f"Sweep: {_short(asked.prompt)}", work), owned=True)


@pages.post("/api/steer/code", response_class=StreamingResponse)
def code(asked: CodeRequest, uses: Uses) -> StreamingResponse:
    """The same as a command and as Python; the numbers of units may have to be measured first."""
    name = model_of(uses, asked.edits)

    def work(job: Job) -> dict[str, Any]:
        keys = dict.fromkeys(one.dictionary for one in asked.edits)
        known = [uses.workspace.dictionary(key) for key in keys]
        groups = edit_groups(uses, asked.edits)
        job.check()
        steered = Steered(
            name, known, groups, asked.prompt, coefficients=asked.coefficients, **asked.options()
        )
        kept = None
        if steered.needs_recipe:
            kept = _kept(uses, make_recipe(uses.resident.model(name), groups, note="made by hand"))
        run = run_with_contexts(uses, known[0]) if len(known) == 1 else None
        return {
            "command": as_command(
                steered,
                recipe=None if kept is None else kept.path.resolve(),
                run=None if run is None else run.path.resolve(),
            ),
            "python": as_python(steered),
            "recipe": None if kept is None else {"id": kept.id, "title": kept.title},
        }

    return stream(uses.queue, uses.queue.submit("code", "Writing the command", work), owned=True)


@pages.post("/api/recipes", response_class=StreamingResponse)
def save(asked: NewRecipe, uses: Uses) -> StreamingResponse:
    """Keep edits as a recipe; the last event has its id."""
    name = model_of(uses, asked.edits)
    uses.workspace.check_recipe_name(asked.name)

    def work(job: Job) -> dict[str, Any]:
        del job
        recipe = make_recipe(uses.resident.model(name), edit_groups(uses, asked.edits), note="made by hand")
        known = uses.workspace.save_recipe(asked.name, recipe)
        return {"id": known.id, "title": known.title}

    return stream(uses.queue, uses.queue.submit("save", f"Saving {asked.name}", work), owned=False)


@pages.get("/api/recipes/{recipe}", response_model=None)
def download(recipe: Annotated[str, Path(max_length=200)], uses: Uses) -> JSONResponse:
    """The recipe's file."""
    known = uses.workspace.recipe(recipe)
    answer = json_answer(known.read().to_json())
    answer.headers["content-disposition"] = f'attachment; filename="{known.id}.json"'
    return answer


def _teller(job: Job) -> Any:
    def tell(piece: Piece) -> None:
        job.tell("piece", piece._asdict())

    return tell


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= 40 else f"{prompt[:39]}…"


def _kept(uses: Service, recipe: Recipe) -> KnownRecipe:
    """A recipe in a file that is named by what is in it; written once."""
    title = f"steered {recipe.content_hash[:8]}"
    for known in uses.workspace.recipes():
        if known.title == title and not known.run:
            return known
    return uses.workspace.save_recipe(title, recipe)


def _offered(uses: Service, text: str) -> dict[str, Any]:
    """An edit of the address, ``KEY/FEATURE:OPERATION[:VALUE[:UNIT[:WINDOW]]]``, as the draft keeps it."""
    key, slash, spelled = text.partition("/")
    if not slash or len(text) > 200:
        raise ConfigurationError(
            "The address holds an edit that cannot be read.", hint="Add the feature again."
        )
    edit = parse_edit(spelled)
    if edit.feature > _LARGEST_ID:
        raise NotFoundError(
            "The address names a feature that no dictionary has.", hint="Add the feature again."
        )
    return _as_draft(uses, uses.workspace.dictionary(key), edit)


def _edits_of(uses: Service, recipe: str) -> list[dict[str, Any]]:
    """The edits of a recipe as the draft keeps them."""
    read = uses.workspace.recipe(recipe).read()
    known = {one.fingerprint: one for one in uses.workspace.dictionaries()}
    edits = []
    for part in read.parts:
        if part.dictionary.fingerprint not in known:
            raise NotFoundError("No run has this dictionary.", hint="Run `onesense extract` with it.")
        for edit in part.edits:
            if edit.where.positions or edit.where.include or edit.where.exclude:
                raise ConfigurationError(
                    "This recipe has edits at single positions or tokens, which this page cannot show.",
                    hint="Use it with `onesense steer --recipe`.",
                )
            edits.append(_as_draft(uses, known[part.dictionary.fingerprint], edit))
    return edits


def _as_draft(uses: Service, known: KnownDictionary, edit: Edit) -> dict[str, Any]:
    return {
        **_draft(uses, known, edit.feature),
        "operation": str(edit.operation),
        "value": edit.amount,
        "unit": str(edit.unit),
        "window": str(edit.where.window),
        "first": edit.where.first,
        "last": edit.where.last,
        "special": edit.where.special,
        "on": True,
    }


def _draft(uses: Service, known: KnownDictionary, feature: int) -> dict[str, Any]:
    return {
        "dictionary": known.key,
        "hook_point": known.hook_point,
        "model": known.model,
        "feature": feature,
        "run": known.extract[0] if known.extract else "",
        "label": _label(uses, known, feature),
    }


def _label(uses: Service, known: KnownDictionary, feature: int) -> str:
    """Its explanation, or the tokens that it promotes most; empty where no run can be read that knows."""
    for name in known.extract:
        try:
            run = uses.workspace.run(name, "extract").open()
            with Catalog(run.catalog_path, read_only=True) as catalog:
                rows = read_shown(catalog, [feature])
        except OnesenseError:
            continue
        if rows:
            return _words(rows[0])
    return ""


def _words(row: ShownFeature) -> str:
    """The explanation, or the tokens that it promotes most."""
    return row.explanation or " ".join(row.promoted[:4])
