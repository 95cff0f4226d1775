"""Variants: what a strength means, what is refused, which erasures there are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.debias.controls.activations import activations_of_pairs
from onesense.debias.controls.erasures import difference_of_means
from onesense.debias.controls.text_pairs import fact_pairs, shuffled_pairs
from onesense.debias.proof.erasure_variants import erasure_variants
from onesense.debias.proof.variants import (
    by_fingerprint,
    random_variants,
    recipe_variant,
    sanity_variants,
    scaled_recipe,
)
from onesense.errors import ConfigurationError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import Recipe, make_recipe
from tiny_dictionaries import random_dictionary

POINT = HookPoint(1, "hook_resid_post")


@given(strength=st.floats(0, 3))
def test_the_change_is_multiplied(tuned: Any, strength: float) -> None:
    scaled = scaled_recipe(tuned.recipe, strength)
    for part, new in zip(tuned.recipe.parts, scaled.parts, strict=True):
        assert new.stack
        for edit, other in zip(part.edits, new.edits, strict=True):
            change = -0.6 if edit.operation is Operation.SCALE else -0.1
            rest = 1.0 if edit.operation is Operation.SCALE else 0.0
            assert other.amount == pytest.approx(rest + strength * change)
            assert (other.feature, other.where) == (edit.feature, edit.where)


def test_strength_one_is_the_recipe_itself(tuned: Any) -> None:
    assert scaled_recipe(tuned.recipe, 1.0).content_hash == tuned.recipe.content_hash


@pytest.mark.parametrize("strength", [-0.1, math.inf, math.nan])
def test_bad_strengths_are_refused(tuned: Any, strength: float) -> None:
    with pytest.raises(ConfigurationError, match="strength"):
        scaled_recipe(tuned.recipe, strength)


def _recipe(model: LanguageModel, *edits: Edit) -> Recipe:
    return make_recipe(model, [EditGroup(random_dictionary(d_in=32, hook_point=POINT), list(edits))])


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_operations_without_more_or_less_are_refused(tiny_llama: LanguageModel, strength: float) -> None:
    clamp = _recipe(tiny_llama, Edit(feature=7, operation=Operation.CLAMP, value=1.0))
    with pytest.raises(ConfigurationError, match="Feature 7 is edited by `clamp`"):
        scaled_recipe(clamp, strength)


def test_a_recipe_without_edits_is_refused(tiny_llama: LanguageModel) -> None:
    dictionary = random_dictionary(d_in=32, hook_point=POINT)
    with pytest.raises(ConfigurationError, match="no edit"):
        recipe_variant(tiny_llama, _recipe(tiny_llama), by_fingerprint([dictionary]))


def test_stacked_edits_of_a_feature_count_once(tiny_llama: LanguageModel, tuned: Any) -> None:
    known = by_fingerprint(tuned.dictionaries.values())
    assert recipe_variant(tiny_llama, tuned.recipe, known).edits == 5
    identity, rebuilt = sanity_variants(tiny_llama, tuned.recipe.groups(tiny_llama, known))
    assert (identity.edits, rebuilt.edits) == (5, 120)


def test_draws_differ_and_are_seeded(tiny_llama: LanguageModel, tuned: Any) -> None:
    known = by_fingerprint(tuned.dictionaries.values())

    def hashes(seed: int) -> list[str]:
        found = random_variants(tiny_llama, tuned.recipe, known, tuned.densities, draws=4, seed=seed)
        return [one.content_hash for one in found]

    assert len(set(hashes(0))) == 4
    assert hashes(0) == hashes(0)
    assert not set(hashes(0)) & set(hashes(1))


def test_which_erasures_there_are(tiny_llama: LanguageModel, tuned: Any) -> None:
    groups = tuned.recipe.groups(tiny_llama, by_fingerprint(tuned.dictionaries.values()))
    pairs = fact_pairs(load_facts(Split.TUNE))[:40]
    variants, notes = erasure_variants(tiny_llama, groups, pairs, seed=0)
    edits = {one.name: one.edits for one in variants}
    assert edits[f"difference of means at {POINT}"] == 1
    assert edits["difference of means, all points"] == 2
    assert edits[f"encoder projection at {POINT}"] == 3
    assert edits["encoder projection, all points"] == 5
    assert {"shuffled labels, LEACE, all points", f"LEACE at {POINT}", "SentenceDebias, all points"} <= set(
        edits
    )
    assert any("INLP" in line for line in [*edits, *notes])


def test_shuffled_labels_are_those_of_shuffled_pairs(tiny_llama: LanguageModel, tuned: Any) -> None:
    groups = tuned.recipe.groups(tiny_llama, by_fingerprint(tuned.dictionaries.values()))[1:]
    pairs = fact_pairs(load_facts(Split.TUNE))[:40]
    variants, _ = erasure_variants(tiny_llama, groups, pairs, seed=3)
    (mine,) = [one for one in variants if one.name == f"shuffled labels, difference of means at {POINT}"]
    data = activations_of_pairs(tiny_llama, [POINT], shuffled_pairs(pairs, 3))[POINT]
    (group,) = mine.group(0.5)
    expected = difference_of_means(data).group(0.5)
    assert isinstance(group, EditGroup)
    along = group.dictionary.W_dec[0] @ expected.dictionary.W_dec[0]
    assert abs(float(along)) == pytest.approx(1.0, abs=1e-4)
    plain = difference_of_means(activations_of_pairs(tiny_llama, [POINT], pairs)[POINT])
    assert abs(float(group.dictionary.W_dec[0] @ plain.dictionary.W_dec[0])) < 0.99
    assert torch.equal(torch.tensor([edit.amount for edit in group.edits]), torch.tensor([0.5, 0.5]))
