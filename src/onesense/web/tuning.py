"""Hand-tuning: the recipe that factors make of another, and what is known of the features to tune."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from onesense.debias.hand_tuning import Setting, with_factors
from onesense.errors import ConfigurationError, NotFoundError, OnesenseError
from onesense.steer.edit import Edit, Operation
from onesense.steer.recipe import Part, Recipe, make_recipe
from onesense.store.candidates import CandidateRow
from onesense.store.catalog import Catalog
from onesense.store.feature_columns import read_shown
from onesense.web.edits import Edits, Key, edit_groups
from onesense.web.service import Service
from onesense.web.workspace import KnownDictionary, KnownRecipe

_MOST_FACTORS = 500
_MOST_FACTOR = 10.0
_CANDIDATES = 200
_TOKENS = 6
_BARE_DETAILS = ("raw", "all")

Evidence = dict[tuple[str, int], CandidateRow]


class Factor(BaseModel):
    """What the latent of a feature is multiplied by; 1 takes the factor out of the recipe."""

    model_config = ConfigDict(extra="forbid")

    dictionary: Key
    feature: int = Field(ge=0, le=2**53)
    factor: float = Field(allow_inf_nan=False, ge=-_MOST_FACTOR, le=_MOST_FACTOR)


class Tuning(BaseModel):
    """Factors, and what they are put into: a recipe that is known, or edits that a browser holds."""

    model_config = ConfigDict(extra="forbid")

    recipe: str | None = Field(default=None, max_length=200)
    edits: Edits = []
    factors: list[Factor] = Field(default=[], max_length=_MOST_FACTORS)


@dataclass(frozen=True, slots=True)
class Tuned:
    """A recipe before and after.

    Attributes:
        known: The recipe that it began with; None where that was a draft.
        base: The same, read.
        recipe: With the factors.
        settings: The factors.
    """

    known: KnownRecipe | None
    base: Recipe
    recipe: Recipe
    settings: Sequence[Setting]


def tuned(uses: Service, asked: Tuning) -> Tuned:
    """The recipe with these factors; loads the model where there was only a draft.

    Raises:
        IncompatibleError: A dictionary is another one now.
        NotFoundError: There is no such recipe, dictionary or feature.
        ConfigurationError: The factors do not go with the recipe.
    """
    known = None if asked.recipe is None else uses.workspace.recipe(asked.recipe)
    if known is not None and asked.edits:
        raise ConfigurationError("Give a recipe or edits, not both.", hint="Open the page again.")
    found = {one.key: one for one in uses.workspace.dictionaries()}
    keys = [*(one.dictionary for one in asked.factors), *(one.dictionary for one in asked.edits)]
    used = [_found(found, key) for key in keys]
    base = _drafted(uses, asked, used) if known is None else known.read()
    settings = [
        Setting(_place(base, _found(found, one.dictionary)), one.feature, one.factor) for one in asked.factors
    ]
    loaded = {key: uses.resident.dictionary(found[key]) for key in {one.dictionary for one in asked.factors}}
    recipe = with_factors(base, settings, list(loaded.values()), keep_others=True)
    return Tuned(known, base, recipe, settings)


def command_of(made: Tuned, name: str) -> str:
    """The line for a shell that makes the same recipe; empty where ``onesense tune`` would make another one."""
    places = {part.hook_point: part for part in made.base.parts}
    if made.known is None or not made.settings:
        return ""
    for setting in made.settings:
        part = places.get(str(setting.place))
        if part is None or any(
            edit.feature == setting.feature and edit != _plain(edit) for edit in part.edits
        ):
            return ""
    words = ["onesense", "tune", made.base.model.name, "--recipe", str(made.known.path.resolve())]
    for setting in made.settings:
        words += ["--set", f"{setting.place}/{setting.feature}={setting.factor:g}"]
    return shlex.join([*words, "--suite", "none", "--output", f"{name}.json"])


def audit_command(recipe: Recipe, known: KnownRecipe) -> str:
    """The line for a shell that audits a saved recipe."""
    return shlex.join(
        ["onesense", "audit", recipe.model.name, "--recipe", str(known.path.resolve()), "--suite", "quick"]
    )


def sliders(uses: Service, model: str, known: KnownRecipe | None, recipe: Recipe | None) -> dict[str, Any]:
    """Features to tune, those that carry most bias first, and the edits that stay as they are.

    Args:
        uses: What pages may use.
        model: Name of the model.
        known: Where the recipe is; None for a draft.
        recipe: The recipe; None for a draft, whose edits the browser has.
    """
    dictionaries = {one.fingerprint: one for one in uses.workspace.dictionaries() if one.model == model}
    evidence = _evidence(uses, dictionaries, "" if known is None else known.run)
    found: list[dict[str, Any]] = []
    fixed: list[dict[str, Any]] = []
    for part in () if recipe is None else recipe.parts:
        own = dictionaries.get(part.dictionary.fingerprint)
        if own is not None:
            _sort_edits(own, part, evidence, found, fixed)
    taken = {(one["dictionary"], one["feature"]) for one in (*found, *fixed)}
    by_key = {one.key: one for one in dictionaries.values()}
    strongest = sorted(
        (place for place in evidence if place not in taken), key=lambda place: -(evidence[place].bias or 0.0)
    )
    found += [_slider(by_key[key], feature, evidence, None) for key, feature in strongest[:_CANDIDATES]]
    _explain(uses, by_key, found)
    return {
        "sliders": sorted(found, key=lambda one: -(one["bias"] or 0.0)),
        "fixed": fixed,
        "dictionaries": [
            {"key": one.key, "hook_point": one.hook_point, "run": one.extract[0] if one.extract else ""}
            for one in by_key.values()
        ],
    }


def _found(dictionaries: dict[str, KnownDictionary], key: str) -> KnownDictionary:
    if key not in dictionaries:
        raise NotFoundError("No run has this dictionary.", hint="Run `onesense extract` with it.")
    return dictionaries[key]


def _drafted(uses: Service, asked: Tuning, used: Iterable[KnownDictionary]) -> Recipe:
    """The draft's edits as a recipe of the one model that they are for."""
    names = {one.model for one in used}
    if len(names) != 1:
        raise ConfigurationError(
            "There is no edit."
            if not names
            else f"These edits are for several models: {', '.join(sorted(names))}.",
            hint="Add a feature." if not names else "Take out the edits of all but one.",
        )
    return make_recipe(uses.resident.model(names.pop()), edit_groups(uses, asked.edits), note="made by hand")


def _place(base: Recipe, known: KnownDictionary) -> str:
    """Hook point at which a recipe edits a dictionary's features.

    Raises:
        ConfigurationError: Another dictionary is edited there, or it is of another model.
    """
    if known.model != base.model.name:
        raise ConfigurationError(
            f"The recipe is for {base.model.name}, and the dictionary at {known.hook_point} for {known.model}.",
            hint="Take features of the recipe's own model.",
        )
    own = [part.hook_point for part in base.parts if part.dictionary.fingerprint == known.fingerprint]
    place = own[0] if own else known.hook_point
    if len(own) > 1 or any(
        part.hook_point == place and part.dictionary.fingerprint != known.fingerprint for part in base.parts
    ):
        raise ConfigurationError(
            f"The recipe edits {place} with another dictionary, or this one at several places.",
            hint="Take a feature of a dictionary that the recipe edits.",
        )
    return place


def _evidence(uses: Service, dictionaries: dict[str, KnownDictionary], own_run: str) -> Evidence:
    """What debias runs with these dictionaries know of their features; the recipe's own run has the last word."""
    found: Evidence = {}
    runs = uses.workspace.of_command("debias")
    for run in sorted(runs, key=lambda one: one.id == own_run):
        try:
            with Catalog(run.path / "catalog.sqlite", read_only=True) as catalog:
                rows = catalog.candidates("bias", limit=_CANDIDATES)
        except OnesenseError:
            continue  # not done yet, or damaged: its features have no evidence
        for row in rows:
            known = dictionaries.get(run.dictionary_at(row.hook_point))
            if known is not None:
                found[known.key, row.feature] = row
    return found


def _sort_edits(
    known: KnownDictionary,
    part: Part,
    evidence: Evidence,
    found: list[dict[str, Any]],
    fixed: list[dict[str, Any]],
) -> None:
    """Edits of a part with one factor become sliders, others stay fixed."""
    for feature in dict.fromkeys(edit.feature for edit in part.edits):
        own = [edit for edit in part.edits if edit.feature == feature]
        factors = [edit for edit in own if edit.operation is Operation.SCALE]
        if len(factors) != 1:
            fixed += [{**_named(known, feature), "words": _words(edit)} for edit in own]
            continue
        slider = _slider(known, feature, evidence, factors[0])
        slider["also"] = [_words(edit) for edit in own if edit != factors[0]]
        found.append(slider)


def _slider(known: KnownDictionary, feature: int, evidence: Evidence, edit: Edit | None) -> dict[str, Any]:
    row = evidence.get((known.key, feature))
    return {
        **_named(known, feature),
        "factor": 1.0 if edit is None else edit.amount,
        "edited": edit is not None,
        "also": [],
        "explanation": "",
        "promoted": list(row.promoted[:_TOKENS]) if row else [],
        **{name: getattr(row, name) if row else None for name in ("bias", "toward_women", "fact", "kl")},
    }


def _named(known: KnownDictionary, feature: int) -> dict[str, Any]:
    run = known.extract[0] if known.extract else ""
    return {"dictionary": known.key, "hook_point": known.hook_point, "feature": feature, "run": run}


def _explain(uses: Service, dictionaries: dict[str, KnownDictionary], found: list[dict[str, Any]]) -> None:
    """Put explanations and tokens where an extract run has them."""
    for key in {one["dictionary"] for one in found}:
        for name in dictionaries[key].extract[:1]:
            here = [one for one in found if one["dictionary"] == key]
            features = [one["feature"] for one in here]
            try:
                path = uses.workspace.run(name, "extract").open().catalog_path
                with Catalog(path, read_only=True) as catalog:
                    shown = {row.feature: row for row in read_shown(catalog, features)}
            except OnesenseError:
                continue  # moved meanwhile: the sliders work without words
            for one in (one for one in here if one["feature"] in shown):
                row = shown[one["feature"]]
                one["explanation"] = row.explanation
                one["promoted"] = one["promoted"] or list(row.promoted[:_TOKENS])


def _words(edit: Edit) -> str:
    """An edit in a few words, such as ``add −0.3``."""
    details = [one for one in (str(edit.unit), str(edit.where.window)) if one not in _BARE_DETAILS]
    amount = "" if edit.operation is Operation.ABLATE else f" {edit.amount:g}".replace("-", "−")
    return f"{str(edit.operation).replace('_', ' ')}{amount}" + "".join(f", {one}" for one in details)


def _plain(edit: Edit) -> Edit:
    """The factor that ``onesense tune`` would make of an edit."""
    return Edit(feature=edit.feature, operation=Operation.SCALE, value=edit.amount)
