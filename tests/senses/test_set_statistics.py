"""Numbers that say whether a set of contexts falls into two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from onesense.senses.set_statistics import (
    STATISTICS,
    best_cut,
    set_statistics,
    two_means,
    within_between,
)


def _cosines(rows: np.ndarray) -> np.ndarray:
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def _named(cosines: np.ndarray) -> dict[str, float]:
    return dict(zip(STATISTICS, set_statistics(cosines[None])[0].tolist(), strict=True))


def _clusters(first: int, second: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = np.eye(20)[[0] * first + [1] * second]
    return _cosines(centres + 0.1 * generator.standard_normal(centres.shape))


def test_identical_contexts_are_one() -> None:
    found = _named(np.ones((16, 16)))
    assert found["mean cosine"] == pytest.approx(1)
    assert found["cosine within"] == pytest.approx(1)
    assert found["cosine between"] == pytest.approx(1)
    assert all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize(("first", "second"), [(4, 4), (8, 8), (6, 26), (32, 32)])
def test_two_clusters_are_far_apart(first: int, second: int) -> None:
    found = _named(_clusters(first, second))
    assert found["cosine within"] > 0.7
    assert found["cosine between"] < 0.2
    assert found["balance"] == pytest.approx(min(first, second) / (first + second))
    assert found["first eigenvalue share"] > 0.6
    assert found["one-dimensional separation"] > 0.9
    assert found["between over within"] < 0.3


def test_contexts_without_any_likeness_give_numbers() -> None:
    for cosines in (np.zeros((8, 8)), np.eye(8)):
        assert all(np.isfinite(value) for value in _named(cosines).values())


@given(st.integers(0, 1000), st.integers(8, 24))
def test_the_order_of_contexts_does_not_matter(seed: int, number: int) -> None:
    cosines = _clusters(number // 3, number - number // 3, seed)
    order = np.random.default_rng(seed + 1).permutation(number)
    moved = set_statistics(cosines[None][:, order[:, None], order])
    assert_allclose(moved, set_statistics(cosines[None]), atol=1e-6)


def test_sets_do_not_touch_one_another() -> None:
    sets = np.stack([_clusters(4, 4), np.ones((8, 8)), _clusters(2, 6, seed=3)])
    together = set_statistics(sets)
    assert_allclose(together, np.concatenate([set_statistics(one[None]) for one in sets]), atol=1e-9)


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=12, unique=True))
def test_the_best_cut_beats_every_other(numbers: list[int]) -> None:
    component = np.array(numbers, float)
    component -= component.mean()
    component /= np.linalg.norm(component)
    share, upper = best_cut(component[None])
    ordered = np.sort(component)

    def between(cut: int) -> float:
        parts = ordered[:cut], ordered[cut:]
        return float(sum(len(part) * part.mean() ** 2 for part in parts))

    assert share[0] == pytest.approx(max(between(cut) for cut in range(1, len(ordered))))
    assert share[0] == pytest.approx(between(int((1 - upper[0]).sum())))
    assert component[upper[0] == 1].min() > component[upper[0] == 0].max()


def test_two_means_mends_a_wrong_start_and_keeps_both_halves() -> None:
    cosines = _clusters(5, 7)
    start = np.array([1.0] * 4 + [0.0] * 8)
    assert_array_equal(two_means(cosines[None], start[None])[0], [1] * 5 + [0] * 7)
    same = two_means(np.ones((1, 6, 6)), np.array([[1.0, 0, 0, 0, 0, 0]]))
    assert 0 < same.sum() < 6


def test_cosines_within_and_between_are_the_means_of_the_pairs() -> None:
    cosines = _clusters(4, 4, seed=5)
    halves = np.array([1.0, 0, 0, 1, 1, 0, 0, 0])
    within, between = within_between(cosines[None], halves[None])
    pairs = [(one, other) for one in range(8) for other in range(8) if one != other]
    same = [cosines[pair] for pair in pairs if halves[pair[0]] == halves[pair[1]]]
    across = [cosines[pair] for pair in pairs if halves[pair[0]] != halves[pair[1]]]
    assert within[0] == pytest.approx(np.mean(same))
    assert between[0] == pytest.approx(np.mean(across))
