"""Tune by hand: set the factor of single features in a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from onesense.errors import ConfigurationError, NotFoundError
from onesense.model.hook_points import HookPoint
from onesense.sae.dictionary import Dictionary
from onesense.steer.edit import Edit, Operation
from onesense.steer.recipe import DictionaryReference, Part, Recipe

_SETTING = re.compile(r"(?:(?P<place>[\w.]+)/)?(?P<feature>\d+)=(?P<factor>[-+\d.eE]+)")


class Setting(NamedTuple):
    """The factor of one feature.

    Attributes:
        place: Hook point or layer, as the user wrote it; None where there is one dictionary only.
        feature: Its id.
        factor: What its latent is multiplied by; 1 takes it out of the recipe.
    """

    place: str | None
    feature: int
    factor: float


def parse_setting(text: str) -> Setting:
    """Read ``460=0.3``, ``15/460=0.3`` or ``blocks.15.hook_resid_post/460=0.3``.

    Raises:
        ConfigurationError: It is none of these.
    """
    match = _SETTING.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError(text)
        factor = float(match["factor"])
    except ValueError:
        raise ConfigurationError(
            f"{text!r} does not set a feature.",
            hint="Write FEATURE=FACTOR, such as 460=0.3, or with the layer in front: 15/460=0.3.",
        ) from None
    return Setting(match["place"], int(match["feature"]), factor)


def with_factors(
    recipe: Recipe,
    settings: Sequence[Setting],
    dictionaries: Sequence[Dictionary],
    *,
    keep_others: bool = False,
) -> Recipe:
    """A recipe with other factors.

    Args:
        recipe: The recipe to begin with.
        settings: The factors; of several for one feature the last counts.
        dictionaries: Whose features may be set; those of the recipe's parts are needed only to know their ids.
        keep_others: Whether what else the recipe does to those features stays, and where a factor acts, too;
            otherwise it is taken out.

    Raises:
        ConfigurationError: It is not clear whose feature is meant, or which factor.
        NotFoundError: There is no such hook point or feature.
    """
    parts = {part.hook_point: part for part in recipe.parts}
    for dictionary in dictionaries:
        name = dictionary.hook_point.name
        empty = Part(hook_point=name, dictionary=DictionaryReference.of(dictionary))
        parts.setdefault(name, empty)
    widths = {dictionary.hook_point.name: dictionary.d_sae for dictionary in dictionaries}
    for setting in settings:
        name = _hook_point(setting, list(parts))
        if setting.feature >= widths.get(name, setting.feature + 1):
            raise NotFoundError(
                f"There is no feature {setting.feature} at {name}.",
                hint=f"Feature ids run from 0 to {widths[name] - 1}.",
            )
        parts[name] = _replace(parts[name], setting) if keep_others else _set(parts[name], setting)
    return recipe.model_copy(update={"parts": tuple(part for part in parts.values() if part.edits)})


def _hook_point(setting: Setting, names: Sequence[str]) -> str:
    place = setting.place
    if place is None:
        if len(names) == 1:
            return names[0]
        raise ConfigurationError(
            f"Feature {setting.feature} of which dictionary? There are {len(names)}: {', '.join(names)}.",
            hint=f"Put the layer in front, such as {HookPoint.parse(names[0]).layer}/{setting.feature}.",
        )
    found = [name for name in names if place == name or place == str(HookPoint.parse(name).layer)]
    if len(found) != 1:
        raise NotFoundError(
            f"{'No' if not found else 'More than one'} dictionary reads {place!r}.",
            hint=f"Hook points: {', '.join(names)}.",
        )
    return found[0]


def _set(part: Part, setting: Setting) -> Part:
    others = tuple(edit for edit in part.edits if edit.feature != setting.feature)
    if setting.factor == 1:
        return part.model_copy(update={"edits": others})
    edit = Edit(feature=setting.feature, operation=Operation.SCALE, value=setting.factor)
    return part.model_copy(update={"edits": (*others, edit)})


def _replace(part: Part, setting: Setting) -> Part:
    """The part with another factor, which acts where the one before did and before what else is done."""
    edits = list(part.edits)
    places = [number for number, edit in enumerate(edits) if edit.feature == setting.feature]
    scaled = [number for number in places if edits[number].operation is Operation.SCALE]
    if len(scaled) > 1:
        raise ConfigurationError(
            f"Feature {setting.feature} at {part.hook_point} has several factors.",
            hint="Leave it as it is, or change the recipe's file.",
        )
    if setting.factor == 1:
        return part.model_copy(
            update={"edits": tuple(edits[n] for n in range(len(edits)) if n not in scaled)}
        )
    if scaled:
        edits[scaled[0]] = edits[scaled[0]].model_copy(update={"value": setting.factor})
        return part.model_copy(update={"edits": tuple(edits)})
    fresh = Edit(feature=setting.feature, operation=Operation.SCALE, value=setting.factor)
    edits.insert(places[0] if places else len(edits), fresh)
    return part.model_copy(update={"edits": tuple(edits), "stack": part.stack or bool(places)})
