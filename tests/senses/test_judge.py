"""Who tells the contexts of two senses from those of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from onesense.errors import ConfigurationError
from onesense.senses.judge import (
    MOST_SENSES,
    Judge,
    drawn_shares,
    fit_judge,
    statistics_of,
    union_direction,
    unions_of,
)
from onesense.senses.sampling import Sample
from onesense.senses.set_statistics import NEIGHBOUR_STATISTICS, STATISTICS
from onesense.senses.space import VIEWS, ContextVectors, SenseSpace
from senses.conftest import LEARNED
from senses.planted_contexts import FEATURES, Planted, union, unions_among


@pytest.mark.parametrize("size", [16, 32])
def test_unions_of_features_it_never_saw_are_told_from_single_ones(
    judge: Judge, vectors: list[ContextVectors], size: int
) -> None:
    generator = np.random.default_rng(7)
    sets, labels = [], []
    draw = unions_among(vectors[LEARNED:])
    for number in (1, 2) * 80:
        sets.append(draw(size, drawn_shares(number, generator), generator).cosines())
        labels.append(number > 1)
    found = judge.several(sets)
    assert roc_auc_score(labels, found) > 0.95
    assert 0 <= found.min() <= found.max() <= 1


def test_more_features_look_like_more_senses(judge: Judge, vectors: list[ContextVectors]) -> None:
    generator = np.random.default_rng(8)
    draw = unions_among(vectors[LEARNED:])
    numbers = np.repeat([1, 2, 3, 4, 5], 25)
    sets = [draw(32, drawn_shares(int(one), generator), generator).cosines() for one in numbers]
    found = judge.probabilities(sets)
    assert found.shape == (len(numbers), MOST_SENSES)
    assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    assert_allclose(judge.several(sets), 1 - found[:, 0])
    assert spearmanr(numbers, 1 + found.argmax(axis=1)).statistic > 0.8


@given(st.integers(1, MOST_SENSES), st.integers(0, 1000))
def test_shares_of_a_union_are_all_worth_a_sense(number: int, seed: int) -> None:
    shares = drawn_shares(number, np.random.default_rng(seed))
    assert len(shares) == number
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 1 / (3 * number)


def test_features_that_differ_in_nothing_are_not_told_apart() -> None:
    generator = np.random.default_rng(5)
    same = [
        ContextVectors(
            generator.standard_normal((48, 10)).astype(np.float32),
            generator.standard_normal((48, 10)).astype(np.float32),
            csr_array((generator.random((48, 20)) < 0.2).astype(np.float32)),
        )
        for _ in range(24)
    ]
    draw = unions_among(same)
    blind = fit_judge(draw, sizes=(16,), seed=0, unions=60)
    sets = [draw(16, drawn_shares(number, generator), generator) for number in (1, 2) * 60]
    found = blind.several([one.cosines() for one in sets])
    assert 0.3 < roc_auc_score([0, 1] * 60, found) < 0.7


def test_too_few_contexts_have_no_number(judge: Judge, vectors: list[ContextVectors]) -> None:
    sets = [vectors[80].take(slice(0, number)).cosines() for number in (0, 1, 7, 8, 15, 40)]
    found = judge.several(sets)
    assert np.isnan(found[:3]).all()
    assert np.isfinite(found[3:]).all()
    assert judge.several([]).shape == (0,)


def test_the_largest_size_that_is_filled_counts(judge: Judge, vectors: list[ContextVectors]) -> None:
    assert judge.sizes == (32, 16, 8)
    assert [judge.size_for(number) for number in (7, 8, 15, 16, 31, 32, 500)] == [None, 8, 8, 16, 16, 32, 32]
    cosines = union(vectors, {80: 24, 81: 24}).cosines()
    assert judge.several([cosines])[0] == judge.several([cosines[:, :32, :32]])[0]


def test_sets_of_all_sizes_together_are_judged_as_alone(judge: Judge, vectors: list[ContextVectors]) -> None:
    sets = [vectors[80].take(slice(0, number)).cosines() for number in (9, 33, 17, 3, 40)]
    alone = np.concatenate([judge.several([one]) for one in sets])
    np.testing.assert_allclose(judge.several(sets), alone, atol=1e-9)


def test_the_same_seed_gives_the_same_judge(vectors: list[ContextVectors]) -> None:
    sets = [union(vectors, {80: 8, 81: 8}).cosines(), vectors[82].take(slice(0, 16)).cosines()]
    one, again, other = (
        fit_judge(unions_among(vectors[:30]), sizes=(16,), seed=seed, unions=60) for seed in (3, 3, 4)
    )
    assert_array_equal(one.several(sets), again.several(sets))
    assert not np.array_equal(one.several(sets), other.several(sets))


def test_statistics_of_all_views_stand_beside_one_another(vectors: list[ContextVectors]) -> None:
    sets = [vectors[at].take(slice(0, 8)).cosines() for at in range(3)]
    found = statistics_of(sets)
    own = len(STATISTICS) + len(NEIGHBOUR_STATISTICS)
    assert len(found) == 3
    assert found.shape[1] > len(VIEWS) * own
    assert np.isfinite(found).all()
    assert_allclose(found[:1], statistics_of(sets[:1]), rtol=1e-6, atol=1e-8)


class Spy:
    """A space that keeps what it is asked."""

    def __init__(self, space: SenseSpace) -> None:
        self.space = space
        self.seen: list[tuple[Sample, np.ndarray, np.ndarray | None]] = []

    def vectors(
        self, sample: Sample, direction: np.ndarray, *, makers: np.ndarray | None = None
    ) -> ContextVectors:
        self.seen.append((sample, direction, makers))
        return self.space.vectors(sample, direction, makers=makers)


def test_a_union_has_all_features_in_their_shares(world: Planted, space: SenseSpace) -> None:
    samples = [world.sample(at) for at in range(FEATURES)]
    directions = world.directions[:FEATURES]
    of = {int(position): at for at, one in enumerate(samples) for position in one.position}
    spy = Spy(space)
    draw = unions_of(spy, samples, directions)  # type: ignore[arg-type]
    shares = (0.25, 0.25, 0.5)
    assert len(draw(16, shares, np.random.default_rng(0))) == 16
    ((sample, mixed, _),) = spy.seen
    makers, sizes = np.unique([of[int(position)] for position in sample.position], return_counts=True)
    assert sorted(sizes.tolist()) == [4, 4, 8]
    assert_allclose(mixed, union_direction(directions[makers], sizes / 16), atol=1e-5)
    assert np.linalg.norm(mixed) == pytest.approx(1, abs=1e-5)


def test_a_single_feature_writes_its_own_direction(world: Planted, space: SenseSpace) -> None:
    samples = [world.sample(at) for at in range(FEATURES)]
    spy = Spy(space)
    draw = unions_of(spy, samples, world.directions[:FEATURES])  # type: ignore[arg-type]
    draw(16, (1.0,), np.random.default_rng(1))
    ((sample, own, makers),) = spy.seen
    (first,) = {at for at, one in enumerate(samples) if set(sample.position) <= set(one.position)}
    assert_allclose(own, world.directions[first], atol=1e-6)
    assert makers is None


def test_the_dictionary_knows_the_senses_of_half_of_the_unions(world: Planted, space: SenseSpace) -> None:
    spy, generator = Spy(space), np.random.default_rng(2)
    draw = unions_of(spy, [world.sample(at) for at in range(FEATURES)], world.directions[:FEATURES])  # type: ignore[arg-type]
    for _ in range(200):
        draw(8, (0.5, 0.5), generator)
    assert 70 < sum(makers is None for _, _, makers in spy.seen) < 130


def test_too_few_features_are_refused(world: Planted, space: SenseSpace) -> None:
    with pytest.raises(ConfigurationError, match="19 features"):
        unions_of(space, [world.sample(at) for at in range(19)], world.directions[:19])
