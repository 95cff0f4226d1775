"""What each feature of a recipe does: its amounts, and what is left of the spread without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onesense.debias.tune_measures import TuneMeter
from onesense.model.language_model import LanguageModel
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import Recipe

_NO_FACTS = 1_000


def amounts(recipe: Recipe) -> dict[tuple[str, int], tuple[float, float]]:
    """Factor and threshold of each feature of a recipe, by hook point and id."""
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for part in recipe.parts:
        for edit in part.edits:
            key = (part.hook_point, edit.feature)
            factor, threshold = found.get(key, (1.0, 0.0))
            if edit.operation.is_share:
                factor = edit.amount
            else:
                threshold = -edit.amount
            found[key] = (factor, threshold)
    return found


def without(recipe: Recipe, point: str, feature: int) -> Recipe:
    """The recipe without the edits of one feature."""
    parts = tuple(
        part.model_copy(
            update={
                "edits": tuple(
                    edit for edit in part.edits if (part.hook_point, edit.feature) != (point, feature)
                )
            }
        )
        for part in recipe.parts
    )
    return recipe.model_copy(update={"parts": parts})


def spreads_without(
    model: LanguageModel,
    start: int,
    recipe: Recipe,
    features: Sequence[tuple[str, int]],
    groups: Callable[[Recipe], list[EditGroup]],
    report: Callable[[int, int], None],
) -> list[float]:
    """The spread on the tune split as a share of the unedited model's, without each feature in turn.

    Args:
        model: The model.
        start: The first block that the recipe may change.
        recipe: The recipe.
        features: Hook points and ids.
        groups: Gives the edits of a recipe with their dictionaries.
        report: Told features done and features wanted.
    """
    meter = TuneMeter(model, start, templates=1, every_fact=_NO_FACTS)
    found = []
    for number, (point, feature) in enumerate(features, start=1):
        found.append(meter.measure(groups(without(recipe, point, feature)), facts=False).spread)
        report(number, len(features))
    return found
