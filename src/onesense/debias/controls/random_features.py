"""The null of a recipe: the same edits on random features that fire as often and are as long."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.sae.dictionary import Dictionary
from onesense.steer.edit import Edit, Unit
from onesense.steer.recipe import Part, Recipe

# A feature that never fired in the sample still has a place on the log scale, as in the published lens.
_SMALLEST_DENSITY = 1e-10
# Half-widths of the first bin, in decades of firing rate and of decoder norm; doubled until enough are in it.
_DENSITY_BIN = 0.05
_NORM_BIN = 0.02
_FEWEST = 8


def matched_features(
    dictionary: Dictionary,
    density: Tensor,
    features: Sequence[int],
    *,
    excluded: Collection[int] = (),
    seed: int,
) -> list[int]:
    """For each feature another one, drawn at random from those of like firing rate and decoder norm.

    A bin about the feature is widened until eight others are in it (or all that are left), and one of them is
    drawn. None is drawn twice, and none of ``features`` is drawn.

    Args:
        dictionary: The dictionary.
        density: Share of tokens on which each feature fires, [d_sae].
        features: The features to be matched, each once.
        excluded: Features that must not be drawn either, such as all candidates of a search.
        seed: Which draw.

    Returns:
        As many feature ids, in the same order.

    Raises:
        ConfigurationError: Fewer features are left than are to be matched; a feature is given twice; a
            density is not between 0 and 1.
        NotFoundError: A feature does not exist.
        IncompatibleError: Not one density for each feature.
    """
    places = _places(dictionary, density, features)
    free = np.ones(dictionary.d_sae, dtype=np.bool_)
    free[[*features, *(one for one in excluded if 0 <= one < dictionary.d_sae)]] = False
    if int(free.sum()) < len(features):
        raise ConfigurationError(
            f"{len(features)} features are to be matched, and {int(free.sum())} others are left of "
            f"{dictionary.d_sae} in {dictionary.origin.label}.",
            hint="Exclude fewer features.",
        )
    generator = np.random.default_rng(seed)
    drawn: dict[int, int] = {}
    # In random order, so that no feature always has the first choice.
    for feature in generator.permutation(np.asarray(features, dtype=np.int64)).tolist():
        near = _near(places, feature, free)
        drawn[feature] = int(generator.choice(near))
        free[drawn[feature]] = False
    return [drawn[feature] for feature in features]


def matched_random_recipe(
    recipe: Recipe,
    dictionaries: Mapping[str, Dictionary],
    densities: Mapping[str, Tensor],
    seed: int,
    *,
    excluded: Mapping[str, Collection[int]] | None = None,
) -> Recipe:
    """The same edits on matched random features, as a recipe.

    Values in the unit ``max`` are written as the raw amounts that they are, because the largest activation of
    the drawn features is another.

    Args:
        recipe: The recipe.
        dictionaries: For each part its dictionary, by its fingerprint or its hook point.
        densities: For each part the firing rates, [d_sae], by its dictionary's fingerprint or its hook point.
        seed: Which draw; parts draw independently.
        excluded: Features that must not be drawn, by fingerprint or hook point.

    Raises:
        ConfigurationError: A dictionary or its densities are missing, or too few features are left.
        IncompatibleError: A dictionary is not that of the recipe.
        NotFoundError: A feature does not exist.
    """
    parts: list[Part] = []
    used: dict[str, set[int]] = {}
    for part in recipe.parts:
        used.setdefault(part.dictionary.fingerprint, set()).update(edit.feature for edit in part.edits)
    for number, part in enumerate(recipe.parts):
        dictionary = _of(part, dictionaries, "dictionary")
        if dictionary.origin.fingerprint != part.dictionary.fingerprint:
            raise IncompatibleError(
                f"The recipe's edits at `{part.hook_point}` are for another dictionary than the one given.",
                hint="Give the dictionary that the recipe was made for.",
            )
        taken = used[part.dictionary.fingerprint]
        features = list(dict.fromkeys(edit.feature for edit in part.edits))
        found = matched_features(
            dictionary,
            _of(part, densities, "firing rates"),
            features,
            excluded={*taken, *_excluded(part, excluded or {})},
            seed=_seed(seed, number),
        )
        taken.update(found)
        new = dict(zip(features, found, strict=True))
        edits = tuple(_moved(edit, new[edit.feature], part) for edit in part.edits)
        parts.append(Part.model_validate({**dict(part), "edits": edits, "max_activation": {}}))
    note = (
        f"Random features matched in firing rate and decoder norm, draw {seed}, in place of those of "
        f"{recipe.content_hash}."
    )
    return Recipe(model=recipe.model, parts=tuple(parts), note=note)


def _places(dictionary: Dictionary, density: Tensor, features: Sequence[int]) -> NDArray[np.float64]:
    """Where each feature stands, in widths of the first bin: firing rate and norm, [d_sae, 2]."""
    if density.shape != (dictionary.d_sae,):
        raise IncompatibleError(
            f"Firing rates have shape {list(density.shape)}, and {dictionary.origin.label} has "
            f"{dictionary.d_sae} features.",
            hint="Give one firing rate for each feature.",
        )
    if not bool(((density >= 0) & (density <= 1)).all()):
        raise ConfigurationError(
            "A firing rate is a share of the tokens, between 0 and 1.",
            hint="Give the rates themselves, not their logarithms.",
        )
    if len(set(features)) != len(features):
        raise ConfigurationError("A feature is to be matched twice.", hint="Name each feature once.")
    dictionary.decoder_rows(density.new_tensor(list(features)).long())  # refuses ids that do not exist
    rates = np.log10(density.detach().cpu().double().numpy() + _SMALLEST_DENSITY)
    norms = np.log10(dictionary.decoder_norms.detach().cpu().double().numpy())
    return np.stack([rates / _DENSITY_BIN, norms / _NORM_BIN], axis=1)


def _near(places: NDArray[np.float64], feature: int, free: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The free features in the smallest bin about a feature that holds enough of them."""
    candidates = np.flatnonzero(free)
    distance = np.abs(places[candidates] - places[feature]).max(axis=1)
    wanted = np.sort(distance)[: min(_FEWEST, len(candidates))][-1]
    width = 1.0 if wanted <= 1 else 2.0 ** np.ceil(np.log2(wanted))
    near: NDArray[np.int64] = candidates[distance <= width]
    return near


def _of(part: Part, given: Mapping[str, Any], what: str) -> Any:
    for key in (part.dictionary.fingerprint, part.hook_point):
        if key in given:
            return given[key]
    raise ConfigurationError(
        f"There is no {what} for the edits at `{part.hook_point}`.",
        hint="Give one by hook point, or by the dictionary's fingerprint.",
    )


def _excluded(part: Part, excluded: Mapping[str, Collection[int]]) -> set[int]:
    return {one for key in (part.dictionary.fingerprint, part.hook_point) for one in excluded.get(key, ())}


def _moved(edit: Edit, feature: int, part: Part) -> Edit:
    """The edit on another feature, by the same amount."""
    changes: dict[str, Any] = {"feature": feature}
    if edit.unit is Unit.MAX:
        known = part.max_activation.get(edit.feature)
        if known is None:
            raise ConfigurationError(
                f"Unit `max` needs the largest activation of feature {edit.feature}, which the recipe lacks.",
                hint="Write the recipe with its largest activations, or in unit `raw`.",
            )
        changes |= {"unit": Unit.RAW, "value": edit.amount * known}
    return Edit.model_validate({**dict(edit), **changes})


def _seed(seed: int, part: int) -> int:
    return int(np.random.SeedSequence([seed, part]).generate_state(1)[0])
