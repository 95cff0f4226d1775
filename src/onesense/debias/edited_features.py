"""The features of a recipe: what was known of each, where it fires, and what it does by itself."""

from __future__ import annotations

from onesense.debias.debias_run import DebiasRun
from onesense.debias.describe import describe
from onesense.debias.feature_contexts import FeatureKey, feature_contexts
from onesense.debias.find import Found
from onesense.debias.leave_one_out import LeaveOneOut, leave_one_out
from onesense.debias.results import EditedFeature, EditEffect
from onesense.steer.recipe import Recipe


def edited_features(
    work: DebiasRun, recipe: Recipe, found: Found
) -> tuple[list[EditedFeature], EditEffect | None]:
    """The features of a recipe, the one that is missed most first, and what all the edits do together.

    Args:
        work: The run, which keeps what is measured.
        recipe: The recipe.
        found: What finding gave.

    Returns:
        The features; and the effect of the recipe, None where the run does not measure it.
    """
    amounts = recipe_amounts(recipe)
    evidence = describe(
        work.model,
        work.dictionaries,
        found,
        [_column(work, point, feature, found) for point, feature in amounts],
        work.screen,
    )
    source = work.settings.find.text
    with work.timed("contexts"):
        contexts = feature_contexts(
            work.model,
            work.dictionaries,
            list(amounts),
            work.run.path / f"contexts-{recipe.content_hash[:8]}",
            source=source,
            stages=work.stages,
        )
    effects = _effects(work, recipe, list(amounts)) if work.settings.own_effects else None
    edited = [
        EditedFeature(
            one,
            factor,
            threshold,
            without=None if effects is None else effects.without[key],
            contexts=contexts[key],
        )
        for one, (key, (factor, threshold)) in zip(evidence, amounts.items(), strict=True)
    ]
    edited.sort(key=_importance, reverse=True)
    return edited, None if effects is None else effects.complete


def recipe_amounts(recipe: Recipe) -> dict[FeatureKey, tuple[float, float]]:
    """Factor and threshold of each feature of a recipe."""
    amounts: dict[FeatureKey, tuple[float, float]] = {}
    for part in recipe.parts:
        for edit in part.edits:
            key = (part.hook_point, edit.feature)
            factor, threshold = amounts.get(key, (1.0, 0.0))
            if edit.operation.is_share:
                factor = edit.amount
            else:
                threshold = -edit.amount
            amounts[key] = (factor, threshold)
    return amounts


def _importance(one: EditedFeature) -> tuple[float, float]:
    """What is left of the spread without it; where nobody measured that, what its edit takes to first order."""
    first_order = abs(one.factor - 1) * one.evidence.bias
    return (0.0 if one.without is None else one.without.spread), first_order


def _effects(work: DebiasRun, recipe: Recipe, features: list[FeatureKey]) -> LeaveOneOut:
    with work.timed("own effects"):
        return leave_one_out(
            work.model,
            recipe,
            features,
            work.run.path / f"leave-one-out-{recipe.content_hash[:8]}.json",
            groups=work.groups,
            start=work.start,
            source=work.settings.find.text,
            stages=work.stages,
        )


def _column(work: DebiasRun, point: str, feature: int, found: Found) -> int:
    """Place of a feature among those of all dictionaries."""
    number = [one.hook_point.name for one in work.dictionaries].index(point)
    return sum(found.evidence.widths[:number]) + feature
