"""Where tuning for one budget begins, once another was tuned: the choice, and what tuning changed of the other's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onesense.debias.selection import Feature, Selection
from onesense.sae.dictionary import Dictionary
from onesense.steer.recipe import Recipe


def first_budget(budgets: Sequence[float]) -> float:
    """The budget that is tuned from nothing: the middle one, and of two in the middle the larger."""
    return sorted(budgets)[len(budgets) // 2]


def carried_over(selection: Selection, before: Selection, tuned: Sequence[float], share: float) -> Selection:
    """A selection that begins where tuning left another.

    A feature of both gets a share of what tuning added to the other's change. One of this budget only is made as much
    smaller as tuning made the others, by least squares.

    Args:
        selection: What was chosen for a budget.
        before: What was chosen for the budget that was tuned.
        tuned: The changes that came out of that, [features of before].
        share: How much larger changes for this budget are.
    """
    ended = np.asarray(tuned)
    kept = float(before.change @ ended / (before.change @ before.change))
    added = dict(zip(before.columns.tolist(), (ended - before.change).tolist(), strict=True))
    change = [
        chosen + share * added[column] if column in added else kept * chosen
        for column, chosen in zip(selection.columns.tolist(), selection.change.tolist(), strict=True)
    ]
    return replace(selection, change=np.array(change))


def tuned_changes(
    recipe: Recipe, features: Sequence[Feature], dictionaries: Sequence[Dictionary]
) -> list[float]:
    """What a recipe adds to the factor 1 of some features of dictionaries, 0 where it leaves one alone, [features]."""
    changes = {
        (part.hook_point, edit.feature): edit.amount - 1
        for part in recipe.parts
        for edit in part.edits
        if edit.operation.is_share
    }
    return [changes.get((dictionaries[one.dictionary].hook_point.name, one.id), 0.0) for one in features]
