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


def test_the_senses_of_a_unit_are_told_by_what_each_writes() -> None:
    """Features of one topic: their contexts share it, and differ in nothing but what the features write."""
    generator = np.random.default_rng(0)
    feature = generator.permutation(np.repeat(np.arange(FEATURES), 48))
    written = np.concatenate([np.zeros((FEATURES, 4)), generator.standard_normal((FEATURES, 28))], axis=1)
    directions = unit_rows(written)
    topics = np.concatenate([4 * generator.standard_normal((10, 4)), np.zeros((10, 28))], axis=1)
    stream = topics[feature % 10] + 3 * directions[feature]
    stream += 0.5 * generator.standard_normal(stream.shape)
    fires = (np.arange(FEATURES) == feature[:, None]).astype(np.float32)
    samples = [
        Sample(rows.astype(np.int32), np.ones(48, np.float32))
        for rows in (np.flatnonzero(feature == one) for one in range(FEATURES))
    ]
    space = fit_space(activity_of({"features": fires}, stream), "features", directions, samples, seed=0)
    gaps = []
    for one in range(40):
        pair = directions[[one, one + 10]]
        mean = union_direction(pair, (0.5, 0.5))
        seen = space.vectors(united(samples[one], samples[one + 10]), mean, makers=pair)
        views = (unit_rows(rows) for rows in (seen.shared, seen.written))
        gaps.append([_gap(rows @ rows.T, 48) for rows in views])
    besides, told_apart = np.mean(gaps, axis=0)
    assert told_apart > 0.05
    assert told_apart > 2 * besides


def test_too_few_features_are_refused(world: Planted) -> None:
    samples = [world.sample(one) for one in range(63)]
    samples += [Sample(one.position[:5], one.value[:5]) for one in samples]
    with pytest.raises(ConfigurationError, match="Only 63 features"):
        fit_space(world.activity, "features", world.directions, samples, seed=0)
    with pytest.raises(ConfigurationError, match="Only 0 features"):
        fit_space(world.activity, "features", world.directions, [], seed=0)
