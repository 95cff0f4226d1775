"""What a recipe still does when one of its features is left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from onesense.bias.scoring.layout import layout_of
from onesense.bias.scoring.passes import first_block
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.divergence import KlMeter
from onesense.debias.feature_contexts import FeatureKey
from onesense.debias.results import EditEffect
from onesense.debias.tune_measures import TuneMeter
from onesense.engine.stages import Stages
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import Edits, prepare
from onesense.steer.intervention import EditGroup, Intervention
from onesense.steer.recipe import Recipe
from onesense.store.seal import keep_json, kept_json

_PASSAGES, _TOKENS = 4, 40
_COMPLETE = "complete"
_EVERY_FACT = 1_000  # facts are not asked for; the meter wants at least one


class LeaveOneOut(NamedTuple):
    """Effects of a recipe and of what is left of it.

    Attributes:
        complete: Of all its edits.
        without: Of the others, for each feature.
    """

    complete: EditEffect
    without: dict[FeatureKey, EditEffect]


def leave_one_out(
    model: LanguageModel,
    recipe: Recipe,
    features: Sequence[FeatureKey],
    path: Path,
    *,
    groups: Callable[[Recipe], list[EditGroup]],
    start: int,
    source: str | None,
    stages: Stages,
) -> LeaveOneOut:
    """Measure a recipe, and the recipe without each of some features, on a few prompts and passages.

    What the edits before a feature do is the same with and without it, and is run once for all features of a block.

    Args:
        model: The model.
        recipe: The recipe.
        features: The features to leave out, one at a time.
        path: JSON file in which each measurement is kept as soon as it is made; those in it are not made again.
        groups: Gives the edits of a recipe.
        start: The first block that an edit may change.
        source: Ordinary text; None for the packaged sample.
        stages: Told about progress.

    Raises:
        StorageError: The file cannot be written.
        NumericalError: The edited model's logits are NaN.
    """
    known: dict[str, list[float]] = kept_json(path) or {}
    variants = {_COMPLETE: recipe} | {_label(key): without(recipe, *key) for key in features}
    missing = [label for label in variants if label not in known]
    if missing:
        meters = _Meters(
            TuneMeter(model, start, templates=1, every_fact=_EVERY_FACT),
            KlMeter(model, calibration_requests(model, passages=_PASSAGES, tokens=_TOKENS, source=source)),
        )
        blocks = _blocks(model, features, groups(recipe))
        later: dict[int, _Meters] = {}
        with stages.stage("Each feature left out", "features") as progress:
            for number, label in enumerate(missing, start=len(variants) - len(missing) + 1):
                edits = prepare(model, groups(variants[label]))
                block = blocks.get(label, 0)
                before = [one for one in edits if first_block(one.point) < block]
                if before and block not in later:
                    later[block] = meters.going_on(before, block)
                rest = [one for one in edits if first_block(one.point) >= block]
                known[label] = (later[block] if before else meters).measure(rest)
                keep_json(path, known)
                progress(number, len(variants))
    return LeaveOneOut(
        EditEffect(*known[_COMPLETE]), {key: EditEffect(*known[_label(key)]) for key in features}
    )


class _Meters(NamedTuple):
    """What is measured of each variant."""

    spread: TuneMeter
    kl: KlMeter

    def going_on(self, edits: Sequence[Intervention], block: int) -> _Meters:
        """The same from a block on, on top of edits before it."""
        return _Meters(self.spread.going_on(edits, block), self.kl.going_on(edits, block))

    def measure(self, edits: Edits) -> list[float]:
        """Spread and KL."""
        return [self.spread.measure(edits, facts=False).spread, self.kl.measure(edits)]


def _blocks(
    model: LanguageModel, features: Sequence[FeatureKey], groups: Sequence[EditGroup]
) -> dict[str, int]:
    """The first block that each feature may change; nothing where a pass cannot go on from there."""
    # A pass that depends on where prompts end is not the one that is kept.
    if not layout_of(model).resumes or any(
        edit.where.needs_prompt_end for group in groups for edit in group.edits
    ):
        return {}
    starts = {group.point.name: first_block(group.point) for group in groups}
    return {_label((point, feature)): starts[point] for point, feature in features}


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


def _label(key: FeatureKey) -> str:
    point, feature = key
    return f"{point}/{feature}"
