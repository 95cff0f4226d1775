"""Tuning for a budget begins with what tuning for another has learned."""

from __future__ import annotations

import numpy as np
import pytest

from onesense.debias.carried_over import carried_over, first_budget, tuned_changes
from onesense.debias.selection import Feature, Selection
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import make_recipe
from small_recipes import dictionary_at


def _selection(columns: list[int], change: list[float]) -> Selection:
    return Selection(np.array(columns), np.array(change), spread=0.5, facts=0.9, kl=0.01, price=3.0)


@pytest.mark.parametrize(
    ("budgets", "first"),
    [((0.003, 0.01, 0.03), 0.01), ((0.03, 0.003, 0.01), 0.01), ((0.01,), 0.01), ((0.002, 0.01), 0.01)],
)
def test_the_middle_budget_is_first(budgets: tuple[float, ...], first: float) -> None:
    assert first_budget(budgets) == first


def test_features_of_both_get_what_tuning_added_and_the_others_shrink_as_these_did() -> None:
    before = _selection([2, 5, 9], [1.0, -0.5, 0.3])
    selection = _selection([1, 2, 9], [0.7, 1.5, 0.4])
    found = carried_over(selection, before, [0.8, -0.6, 0.0], 2.0)
    kept = (0.8 + 0.5 * 0.6) / (1 + 0.5**2 + 0.3**2)
    assert found.columns.tolist() == [1, 2, 9]
    assert found.change.tolist() == pytest.approx([kept * 0.7, 1.5 - 2 * 0.2, 0.4 - 2 * 0.3])
    assert (found.kl, found.price) == (selection.kl, selection.price)
    assert selection.change.tolist() == [0.7, 1.5, 0.4]


def test_a_feature_that_the_recipe_leaves_alone_did_not_change(tiny_llama: LanguageModel) -> None:
    dictionaries = [dictionary_at("blocks.0.hook_resid_post"), dictionary_at("blocks.1.hook_resid_post")]
    edits = [
        Edit(feature=3, operation=Operation.SCALE, value=0.4),
        Edit(feature=3, operation=Operation.ADD, value=-0.1),
    ]
    recipe = make_recipe(tiny_llama, [EditGroup(dictionaries[1], edits, stack=True)])
    features = [Feature(0, 3), Feature(1, 3), Feature(1, 4)]
    assert tuned_changes(recipe, features, dictionaries) == pytest.approx([0.0, -0.6, 0.0])
