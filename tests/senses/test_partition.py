"""The senses of a unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.metrics import adjusted_rand_score

from onesense.senses.judge import MOST_SENSES, Judge
from onesense.senses.partition import Senses, partition, partition_all
from onesense.senses.space import ContextVectors
from senses.planted_contexts import joined

EQUAL = np.ones(200, np.float32)


def _planted(vectors: list[ContextVectors], sizes: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of contexts of several features in random order, and whose each is."""
    together = joined([vectors[feature].take(slice(0, number)) for feature, number in sizes.items()])
    whose = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    order = np.random.default_rng(0).permutation(len(whose))
    return together.take(order).cosines(), whose[order]


def _contexts(first: int, second: int) -> np.ndarray:
    """Cosines of two senses that nothing joins, in all views alike."""
    whose = np.repeat([0, 1], [first, second])
    return np.stack([(whose[:, None] == whose).astype(float)] * 3)


class Always:
    """A judge that says that every set has so many senses."""

    def __init__(self, number: int) -> None:
        self.number = number

    def probabilities(self, sets: list[np.ndarray]) -> np.ndarray:
        return np.tile(np.eye(MOST_SENSES)[self.number - 1], (len(sets), 1))


@pytest.mark.parametrize(
    "sizes",
    [{80: 48}, {80: 24, 81: 24}, {82: 30, 83: 18}, {84: 16, 85: 16, 86: 16}, {87: 24, 88: 14, 89: 10}],
)
def test_planted_senses_are_found(judge: Judge, vectors: list[ContextVectors], sizes: dict[int, int]) -> None:
    cosines, whose = _planted(vectors, sizes)
    found = partition(cosines, EQUAL[: len(whose)], judge)
    assert found is not None
    assert found.number == len(sizes)
    assert adjusted_rand_score(whose, found.labels) > 0.85
    wanted = sorted((size / len(whose) for size in sizes.values()), reverse=True)
    np.testing.assert_allclose(found.shares, wanted, atol=0.06)
    assert (found.several > 0.8) == (len(sizes) > 1)
    assert np.isnan(found.separation) if len(sizes) == 1 else found.separation > 0.2


def test_most_single_features_have_one_sense(judge: Judge, vectors: list[ContextVectors]) -> None:
    found = partition_all([one.cosines() for one in vectors[70:]], [EQUAL[:48]] * 30, judge)
    assert np.mean([one is not None and one.number == 1 for one in found]) >= 0.9


def test_shares_are_of_the_activation_largest_first() -> None:
    values = np.repeat([1.0, 9.0], [12, 5]).astype(np.float32)
    found = partition(_contexts(12, 5), values, Always(2))  # type: ignore[arg-type]
    assert found is not None
    first = found.labels[values == 9]
    assert set(first) == {0}
    assert found.shares[0] >= 45 / 57 - 1e-6
    assert found.shares.sum() == pytest.approx(1)
    assert (np.diff(found.shares) <= 0).all()
    mass = np.bincount(found.labels, weights=values) / values.sum()
    np.testing.assert_allclose(mass, found.shares)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12))
def test_the_effective_number_lies_between_one_and_the_number(mass: list[float]) -> None:
    shares = np.sort(np.array(mass) / np.sum(mass))[::-1]
    found = Senses(np.zeros(1, np.int64), shares, 0.5, 0.0)
    assert 1 - 1e-9 <= found.effective <= found.number + 1e-9


def test_the_effective_number_of_equal_senses_is_their_number() -> None:
    assert Senses(np.zeros(1, np.int64), np.full(4, 0.25), 0.9, 0.5).effective == pytest.approx(4)
    assert Senses(np.zeros(1, np.int64), np.ones(1), 0.9, 0.5).effective == pytest.approx(1)


@pytest.mark.parametrize(("outliers", "number"), [(1, 1), (2, 1), (3, 2)])
def test_two_outliers_are_no_sense(outliers: int, number: int) -> None:
    found = partition(_contexts(14, outliers), EQUAL[: 14 + outliers], Always(2))  # type: ignore[arg-type]
    assert found is not None
    assert found.number == number
    assert found.several == 1


def test_outliers_go_to_the_sense_that_they_are_nearest_to() -> None:
    """Two senses and a context far from both: it is no third sense, and does not hide the second."""
    whose = np.repeat([0, 1, 2], [12, 8, 1])
    cosines = (whose[:, None] == whose).astype(float)
    cosines[-1, 12:20] = cosines[12:20, -1] = 0.2
    found = partition(np.stack([cosines] * 4), EQUAL[:21], Always(2))  # type: ignore[arg-type]
    assert found is not None
    assert found.number == 2
    assert len(set(found.labels[:12])) == 1
    assert set(found.labels[12:]) == {1}


@pytest.mark.parametrize("number", [2, 4, 6])
def test_contexts_that_are_all_alike_have_one_sense_whatever_the_judge_says(number: int) -> None:
    found = partition(np.ones((4, 16, 16)), EQUAL[:16], Always(number))  # type: ignore[arg-type]
    assert found is not None
    assert found.number == 1


def test_too_few_contexts_have_no_senses(judge: Judge, vectors: list[ContextVectors]) -> None:
    sets = [vectors[80].take(slice(0, number)).cosines() for number in (0, 3, 7, 8)]
    found = partition_all(sets, [EQUAL[:number] for number in (0, 3, 7, 8)], judge)
    assert [one is None for one in found] == [True, True, True, False]
    assert partition_all([], [], judge) == []


def test_a_higher_threshold_never_gives_more_senses(judge: Judge, vectors: list[ContextVectors]) -> None:
    sets = [_planted(vectors, {one: 6, one + 1: 3})[0] for one in range(70, 90)]
    numbers = [
        [one.number for one in partition_all(sets, [EQUAL[:9]] * 20, judge, threshold=threshold) if one]
        for threshold in (0.5, 0.8, 0.99)
    ]
    assert (np.array(numbers[0]) >= numbers[1]).all()
    assert (np.array(numbers[1]) >= numbers[2]).all()
    assert sum(numbers[0]) > sum(numbers[2])


def test_units_together_are_cut_as_alone(judge: Judge, vectors: list[ContextVectors]) -> None:
    sets = [_planted(vectors, sizes)[0] for sizes in ({80: 30}, {81: 20, 82: 20}, {83: 9}, {84: 4})]
    values = [EQUAL[: one.shape[-1]] for one in sets]
    for one, cosines, value in zip(partition_all(sets, values, judge), sets, values, strict=True):
        alone = partition(cosines, value, judge)
        assert (one is None) == (alone is None)
        if one is not None and alone is not None:
            assert_array_equal(one.labels, alone.labels)
