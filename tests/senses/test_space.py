"""Where contexts lie."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from onesense.errors import ConfigurationError
from onesense.senses.judge import union_direction
from onesense.senses.sampling import Sample, united
from onesense.senses.space import VIEWS, ContextVectors, SenseSpace, fit_space, unit_rows
from senses.planted_contexts import FEATURES, Planted, activity_of, joined


def _raw(world: Planted, feature: int) -> np.ndarray:
    return unit_rows(world.activity.rows(world.sample(feature).position))


def _gap(cosines: np.ndarray, first: int) -> float:
    """Mean cosine within two sets of contexts minus between them."""
    number = len(cosines)
    same = (np.arange(number) < first)[:, None] == (np.arange(number) < first)
    return float(cosines[same & ~np.eye(number, dtype=bool)].mean() - cosines[~same].mean())


def test_contexts_of_a_feature_are_nearer_to_one_another_than_to_others(
    world: Planted, vectors: list[ContextVectors]
) -> None:
    gaps = []
    for one in range(0, 40, 2):
        cosines = joined([vectors[one], vectors[one + 1]]).cosines()
        gaps.append([_gap(view, len(vectors[one])) for view in cosines])
        assert min(gaps[-1]) > 0.1
    raw = [np.concatenate([_raw(world, one), _raw(world, one + 1)]) for one in range(0, 40, 2)]
    assert np.mean(gaps, axis=0)[0] > 5 * np.mean([_gap(rows @ rows.T, len(rows) // 2) for rows in raw])


def test_cosines_are_cosines(vectors: list[ContextVectors]) -> None:
    cosines = vectors[0].cosines()
    assert cosines.shape == (len(VIEWS), len(vectors[0]), len(vectors[0]))
    assert_allclose(cosines, cosines.transpose(0, 2, 1), atol=1e-6)
    assert np.abs(cosines).max() <= 1 + 1e-6
    assert_allclose(np.diagonal(cosines[0]), 1, atol=1e-6)


def test_what_the_unit_writes_has_no_effect(world: Planted, space: SenseSpace) -> None:
    sample, own = world.sample(3), world.directions[3]
    moved = world.activity.rows(np.arange(len(world.feature)))
    moved[sample.position] += np.outer(np.linspace(-20, 20, len(sample)), own).astype(np.float32)
    pushed = SenseSpace(activity_of({}, moved), space.shared, space.written, space.latents, space.directions)
    before, after = space.vectors(sample, own), pushed.vectors(sample, own)
    assert_allclose(before.shared, after.shared, atol=0.1)
    assert_allclose(before.written, after.written, atol=0.1)
    other = world.directions[4]
    assert np.abs(space.vectors(sample, other).shared - pushed.vectors(sample, other).shared).max() > 1


def test_features_that_write_the_same_do_not_count_as_others(world: Planted, space: SenseSpace) -> None:
    seen = space.vectors(world.sample(3), world.directions[3]).firing
    assert seen[:, [3]].max() == 0
    assert space.vectors(world.sample(3), world.directions[4]).firing[:, [3]].min() > 0
    assert seen[:, FEATURES:].max() > 0


def test_features_left_out_are_those_of_a_comparison_with_all(world: Planted, space: SenseSpace) -> None:
    sample, own = world.sample(3), world.directions[3]
    makers = world.directions[[7, 9]]
    alike = (space.directions @ np.stack([own, *makers]).T).max(axis=1) > 0.7
    assert alike.sum() >= 3
    wanted = space.latents[sample.position].toarray() * ~alike
    assert_array_equal(space.vectors(sample, own, makers=makers).firing.toarray(), wanted)


def test_rare_features_count_more(world: Planted, space: SenseSpace) -> None:
    count = world.activity.firings["features"].count
    weight = [
        float(np.max(space.latents[:, [unit]].toarray() / np.sqrt(np.maximum(world.latents[:, [unit]], 0.5))))
        for unit in range(FEATURES, FEATURES + 20)
    ]
    order = np.argsort(count[FEATURES : FEATURES + 20])
    assert np.all(np.diff(np.array(weight)[order]) <= 1e-5)
    assert_allclose(weight, np.log(len(world.activity) / count[FEATURES : FEATURES + 20]), rtol=1e-4)


def test_permuted_contexts_have_permuted_cosines(vectors: list[ContextVectors]) -> None:
    order = np.random.default_rng(0).permutation(len(vectors[5]))
    straight = vectors[5].cosines()
    assert_allclose(vectors[5].take(order).cosines(), straight[:, order[:, None], order], atol=1e-6)


def test_the_same_seed_gives_the_same_space(world: Planted, space: SenseSpace) -> None:
    again = world.space()
    assert_array_equal(again.shared.projection, space.shared.projection)
    assert_array_equal(again.written.projection, space.written.projection)


def test_what_features_write_tells_their_contexts_apart(world: Planted, space: SenseSpace) -> None:
    """A unit that writes the mean of two features leaves in their contexts what each writes besides it."""
    one, other = world.sample(10), world.sample(11)
    mean = union_direction(world.directions[[10, 11]], (0.5, 0.5))
    whole = united(one, other)
    halves = np.repeat([0, 1], [len(one), len(other)])
    gaps = []
    for vectors in (space.vectors(whole, mean), space.vectors(whole, world.directions[10])):
        rows = unit_rows(vectors.written)
        cosines = rows @ rows.T
        gaps.append(cosines[halves[:, None] == halves].mean() - cosines[halves[:, None] != halves].mean())
    assert gaps[0] > 0.1


def test_too_few_features_are_refused(world: Planted) -> None:
    samples = [world.sample(one) for one in range(63)]
    samples += [Sample(one.position[:5], one.value[:5]) for one in samples]
    with pytest.raises(ConfigurationError, match="Only 63 features"):
        fit_space(world.activity, "features", world.directions, samples, seed=0)
    with pytest.raises(ConfigurationError, match="Only 0 features"):
        fit_space(world.activity, "features", world.directions, [], seed=0)
