from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from onesense.senses.set_statistics import (
    NEIGHBOUR_STATISTICS,
    STATISTICS,
    best_cut,
    cut_statistics,
    neighbour_statistics,
    set_statistics,
    two_means,
)


def gram(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows @ rows.T)


def two_groups(first: int, second: int, seed: int = 0) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    places = np.repeat(np.eye(6)[:2], [first, second], axis=0)
    return gram(places + 0.1 * generator.standard_normal((first + second, 6)))


def one_group(number: int, seed: int = 0) -> NDArray[np.float64]:
    return gram(np.random.default_rng(seed).standard_normal((number, 6)) * 0.1 + np.eye(6)[0])


def test_two_groups_are_cut_where_they_meet() -> None:
    found, halves = cut_statistics(np.stack([two_groups(10, 6)]))
    named = dict(zip(STATISTICS, found[0], strict=True))
    assert abs(halves[0, :10].mean() - halves[0, 10:].mean()) == 1
    assert named["cosine within"] > 0.9
    assert abs(named["cosine between"]) < 0.2
    assert named["balance"] == pytest.approx(6 / 16)
    assert named["one-dimensional separation"] > 0.9
    shares = [named[f"{name} eigenvalue share"] for name in ("first", "second", "third", "fourth")]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.8


def test_neighbours_are_counted_without_the_context_itself() -> None:
    alike = np.full((1, 8, 8), 0.25)
    alike[0, np.arange(8), np.arange(8)] = 1
    found = dict(zip(NEIGHBOUR_STATISTICS, neighbour_statistics(alike)[0], strict=True))
    assert list(found.values()) == pytest.approx([0.25, 0.25, 0, 0.25, 0.25])
    near = dict(zip(NEIGHBOUR_STATISTICS, neighbour_statistics(two_groups(8, 8)[None])[0], strict=True))
    assert near["cosine of nearest contexts"] > 0.9 > 0.2 > near["cosine of farthest contexts"]


def test_views_that_agree_on_the_cut_are_told_from_views_that_do_not() -> None:
    mixed = np.random.default_rng(1).permutation(16)
    first, second = two_groups(8, 8), two_groups(8, 8, seed=1)
    elsewhere = second[np.ix_(mixed, mixed)]
    together, apart = set_statistics(np.stack([[first, second], [first, elsewhere]]))
    # cut by the first view and seen in the second: what lies within a half is nearer only where the views agree
    start = 2 * len(STATISTICS) + 2 * len(NEIGHBOUR_STATISTICS)
    assert together[start] > 0.8
    assert apart[start] < 0.5
    assert together[start + 4] == pytest.approx(1)
    assert apart[start + 4] < 1


def test_the_order_of_contexts_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(16)
    views = np.stack([two_groups(9, 7), one_group(16)])
    moved = views[:, order[:, None], order]
    np.testing.assert_allclose(*set_statistics(np.stack([views, moved])), atol=1e-9)


def test_sets_do_not_see_one_another_and_edge_cases_are_finite() -> None:
    same = np.ones((2, 8, 8))
    empty = np.zeros((2, 8, 8))
    usual = np.stack([two_groups(4, 4), one_group(8)])
    found = set_statistics(np.stack([same, empty, usual]))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[2], set_statistics(usual[None])[0], atol=1e-12)


def test_two_means_keeps_a_member_in_each_half() -> None:
    same = np.ones((1, 8, 8))
    halves = two_means(same, best_cut(np.zeros((1, 8)))[1])
    assert 0 < halves.sum() < 8
