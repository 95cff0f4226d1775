"""Ways of changing the model, each with a strength: the recipe, sanity checks, learned and random peers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from onesense.debias.controls.random_features import matched_random_recipe
from onesense.debias.controls.reconstruction import ReconstructionOnly
from onesense.debias.controls.signed_pairs import identity
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.apply import Edits
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import Part, Recipe

RECIPE, SANITY, ERASURE, LEARNED, RANDOM = "recipe", "sanity", "erasure", "learned", "random"
KINDS = (SANITY, ERASURE, LEARNED, RANDOM)
"""Kinds of controls, in the order in which a proof names them."""

IDENTITY = "identity"

# A recipe may be strengthened this far where its KL stays below the target; an erasure is whole at 1.
HIGHEST_STRENGTH = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """A way of changing the model.

    Attributes:
        name: For tables.
        kind: ``recipe``, or one of ``KINDS``.
        edits: How many units it edits: features at a hook point, or coordinates of an erasure.
        group: Its edits at a strength; 0 changes nothing, 1 is the whole change.
        highest: The strongest that may be tried.
        note: What a reader must know.
        fixed: Whether it has no strength, and is taken as it is.
        content_hash: That of its recipe; empty where it has none.
    """

    name: str
    kind: str
    edits: int
    group: Callable[[float], Edits]
    highest: float = 1.0
    note: str = ""
    fixed: bool = False
    content_hash: str = ""


def scaled_recipe(recipe: Recipe, strength: float) -> Recipe:
    """The recipe with its change multiplied: a factor f becomes 1 + (f - 1) * strength, an addition grows.

    Args:
        recipe: Edits of the operations ``scale`` and ``add``.
        strength: 0 changes nothing, 1 is the recipe itself; above 1 a factor may become negative.

    Raises:
        ConfigurationError: An edit is of another operation, or the strength is negative or not finite.
    """
    if not 0 <= strength < math.inf:
        raise ConfigurationError(f"The strength is {strength}; it must be a number from 0.")
    parts = tuple(
        Part.model_validate({**dict(part), "edits": tuple(_scaled(edit, strength) for edit in part.edits)})
        for part in recipe.parts
    )
    if strength == 1:
        return recipe  # to the last bit
    note = f"{strength:g} times the change of {recipe.content_hash}."
    return Recipe(model=recipe.model, parts=parts, note=note)


def recipe_variant(
    model: LanguageModel,
    recipe: Recipe,
    dictionaries: Mapping[str, Dictionary],
    *,
    name: str = RECIPE,
    kind: str = RECIPE,
    note: str = "",
) -> Variant:
    """A recipe as a variant.

    Args:
        model: The model.
        recipe: The recipe; its dictionaries that are not given are loaded, once.
        dictionaries: Dictionaries in memory, by fingerprint.
        name: Name for tables.
        kind: What it is in the proof.
        note: What a reader must know.

    Raises:
        ConfigurationError: The recipe holds no edit, or one that has no strength.
        IncompatibleError: Wrong model.
        NotFoundError: A dictionary is not where the recipe says.
    """
    scaled_recipe(recipe, 1.0)
    edits = sum(len({edit.feature for edit in part.edits}) for part in recipe.parts)
    if not edits:
        raise ConfigurationError(f"`{name}` holds no edit: there is nothing to prove.")
    known = by_fingerprint(group.dictionary for group in recipe.groups(model, dictionaries))

    def group(strength: float) -> Edits:
        return scaled_recipe(recipe, strength).groups(model, known)

    return Variant(name, kind, edits, group, HIGHEST_STRENGTH, note, content_hash=recipe.content_hash)


def sanity_variants(model: LanguageModel, groups: Sequence[EditGroup]) -> list[Variant]:
    """The harness alone, which must change nothing, and the dictionaries' reconstruction alone.

    Args:
        model: The model.
        groups: The edits of the recipe.
    """
    same = [identity(group) for group in groups]
    dictionaries = by_fingerprint(group.dictionary for group in groups)
    rebuilt = [ReconstructionOnly(model, dictionary) for dictionary in dictionaries.values()]
    return [
        Variant(
            IDENTITY,
            SANITY,
            sum(len(group.edits) for group in same),
            lambda _: same,
            note="The recipe's features, each kept as it is: any difference is the harness's own. Compared bit by bit "
            "on a sample of the texts, and measured on all of them only where a bit differs.",
            fixed=True,
        ),
        Variant(
            "reconstruction only",
            SANITY,
            sum(dictionary.d_sae for dictionary in dictionaries.values()),
            lambda _: rebuilt,
            note="Activations replaced by what the dictionaries explain of them; it has no strength to adjust.",
            fixed=True,
        ),
    ]


def random_variants(
    model: LanguageModel,
    recipe: Recipe,
    dictionaries: Mapping[str, Dictionary],
    densities: Mapping[str, Tensor],
    *,
    draws: int,
    seed: int,
) -> list[Variant]:
    """The recipe's edits on random features that fire as often and are as long, draw by draw.

    Args:
        model: The model.
        recipe: The recipe.
        dictionaries: Its dictionaries, by fingerprint.
        densities: Firing rates of their features, [d_sae], by fingerprint or hook point.
        draws: How many draws.
        seed: Of all draws.

    Raises:
        ConfigurationError, IncompatibleError, NotFoundError: See ``matched_random_recipe``.
    """
    found = []
    for draw in range(draws):
        own = int(np.random.SeedSequence([seed, draw]).generate_state(1)[0])
        drawn = matched_random_recipe(recipe, dictionaries, densities, own)
        name = f"random features, draw {draw + 1}"
        found.append(recipe_variant(model, drawn, dictionaries, name=name, kind=RANDOM))
    return found


def by_fingerprint(dictionaries: Iterable[Dictionary]) -> dict[str, Dictionary]:
    """Dictionaries by their fingerprint."""
    return {dictionary.origin.fingerprint: dictionary for dictionary in dictionaries}


def _scaled(edit: Edit, strength: float) -> Edit:
    if edit.operation is Operation.SCALE:
        value = 1 + (edit.amount - 1) * strength
    elif edit.operation is Operation.ADD:
        value = edit.amount * strength
    else:
        raise ConfigurationError(
            f"Feature {edit.feature} is edited by `{edit.operation}`, of which there is no more or less.",
            hint="A proof at equal cost takes `scale` (`ablate` is scale 0) and `add`.",
        )
    return Edit.model_validate({**dict(edit), "value": value})
