"""Random features: near in firing rate and norm, never those of the recipe, another for each draw."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesense.debias.controls.random_features import matched_features, matched_random_recipe
from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.edit import Edit, Operation, Unit
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import Recipe, make_recipe
from onesense.steer.where import Where
from tiny_dictionaries import random_dictionary

N = 4000


@pytest.fixture(scope="module")
def dictionary() -> Dictionary:
    return random_dictionary(d_in=32, d_sae=N, hook_point=HookPoint(1, "hook_resid_post"))


@pytest.fixture(scope="module")
def density() -> torch.Tensor:
    rates = 10 ** (-4 * torch.rand(N, generator=torch.Generator().manual_seed(7)))
    rates[:50] = 0.0
    return rates


def test_a_draw_is_near_in_rate_and_norm(dictionary: Dictionary, density: torch.Tensor) -> None:
    features = list(range(100, 150))
    found = matched_features(dictionary, density, features, seed=0)
    assert len(set(found)) == 50
    assert not set(found) & set(features)
    rates = (density[found].log10() - density[features].log10()).abs()
    norms = (dictionary.decoder_norms[found].log10() - dictionary.decoder_norms[features].log10()).abs()
    assert rates.median() < 0.2
    assert norms.median() < 0.08
    spread = (density.log10()[density > 0]).std()
    assert rates.max() < spread


def test_a_feature_that_never_fires_gets_one_that_never_fires(
    dictionary: Dictionary, density: torch.Tensor
) -> None:
    found = matched_features(dictionary, density, [3, 4], seed=0)
    assert (density[found] == 0).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 12), excluded=st.sets(st.integers(-3, 45), max_size=12))
def test_draws_are_distinct_and_seeded(seed: int, n: int, excluded: set[int]) -> None:
    small = random_dictionary(d_sae=40)
    rates = torch.linspace(0.001, 1, 40)
    features = list(range(n))
    found = matched_features(small, rates, features, excluded=excluded, seed=seed)
    assert len(found) == n == len(set(found))
    assert not set(found) & (excluded | set(features))
    assert found == matched_features(small, rates, features, excluded=excluded, seed=seed)


def test_draws_differ(dictionary: Dictionary, density: torch.Tensor) -> None:
    draws = {tuple(matched_features(dictionary, density, [200, 300, 400], seed=seed)) for seed in range(20)}
    assert len(draws) > 15


def test_bad_arguments_are_refused(dictionary: Dictionary, density: torch.Tensor) -> None:
    with pytest.raises(ConfigurationError, match="others are left"):
        matched_features(dictionary, density, [1, 2], excluded=range(3, N), seed=0)
    with pytest.raises(ConfigurationError, match="twice"):
        matched_features(dictionary, density, [1, 1], seed=0)
    with pytest.raises(ConfigurationError, match="logarithms"):
        matched_features(dictionary, density.log10().clamp(min=-10), [1], seed=0)
    with pytest.raises(IncompatibleError, match="4000"):
        matched_features(dictionary, density[:5], [1], seed=0)
    with pytest.raises(NotFoundError, match="no feature 4000"):
        matched_features(dictionary, density, [N], seed=0)


@pytest.fixture
def recipe(tiny_llama: LanguageModel, dictionary: Dictionary) -> Recipe:
    where = Where(first=3)
    early = EditGroup(
        dictionary,
        [
            Edit(feature=101, operation=Operation.SCALE, value=0.3, where=where),
            Edit(feature=102, operation=Operation.CLAMP, value=2.0, unit=Unit.MAX),
        ],
        max_activation={102: 1.5},
    )
    late = EditGroup(dictionary, [Edit(feature=103, value=1.0)], hook_point=HookPoint(2, "hook_resid_post"))
    return make_recipe(tiny_llama, [early, late])


def test_the_same_edits_on_other_features(
    tiny_llama: LanguageModel, dictionary: Dictionary, density: torch.Tensor, recipe: Recipe
) -> None:
    known = {dictionary.origin.fingerprint: dictionary}
    rates = {dictionary.origin.fingerprint: density}
    drawn = matched_random_recipe(recipe, known, rates, 5)
    scale, clamp = drawn.parts[0].edits
    (add,) = drawn.parts[1].edits
    assert (scale.operation, scale.value, scale.where) == (Operation.SCALE, 0.3, Where(first=3))
    assert (clamp.operation, clamp.value, clamp.unit) == (Operation.CLAMP, 3.0, Unit.RAW)
    assert (add.operation, add.value) == (Operation.DIRECTION_ADD, 1.0)
    features = {scale.feature, clamp.feature, add.feature}
    assert len(features) == 3
    assert not features & {101, 102, 103}
    assert [part.hook_point for part in drawn.parts] == [part.hook_point for part in recipe.parts]
    assert recipe.content_hash in drawn.note
    assert drawn == matched_random_recipe(recipe, known, rates, 5)
    assert drawn.content_hash != matched_random_recipe(recipe, known, rates, 6).content_hash
    assert Recipe.from_json(drawn.to_json()) == drawn
    drawn.groups(tiny_llama, known)


def test_by_hook_point_and_with_exclusions(
    dictionary: Dictionary, density: torch.Tensor, recipe: Recipe
) -> None:
    names = [part.hook_point for part in recipe.parts]
    kept = set(range(1000, 1100)) | {101, 102, 103}
    excluded = {name: sorted(set(range(N)) - kept) for name in names}
    drawn = matched_random_recipe(
        recipe, dict.fromkeys(names, dictionary), dict.fromkeys(names, density), 0, excluded=excluded
    )
    assert {edit.feature for part in drawn.parts for edit in part.edits} <= set(range(1000, 1100))


def test_what_is_missing_is_told(dictionary: Dictionary, density: torch.Tensor, recipe: Recipe) -> None:
    fingerprint = dictionary.origin.fingerprint
    with pytest.raises(ConfigurationError, match="no dictionary"):
        matched_random_recipe(recipe, {}, {fingerprint: density}, 0)
    with pytest.raises(ConfigurationError, match="no firing rates"):
        matched_random_recipe(recipe, {fingerprint: dictionary}, {}, 0)
    other = random_dictionary(d_in=32, d_sae=N, seed=2)
    with pytest.raises(IncompatibleError, match="another dictionary"):
        matched_random_recipe(recipe, {"blocks.1.hook_resid_post": other}, {fingerprint: density}, 0)
    without = recipe.model_copy(
        update={"parts": (recipe.parts[0].model_copy(update={"max_activation": {}}),)}
    )
    with pytest.raises(ConfigurationError, match="largest activation"):
        matched_random_recipe(without, {fingerprint: dictionary}, {fingerprint: density}, 0)
