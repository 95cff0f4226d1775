"""Enrichment against scipy, one number at a time, and against direct definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, hypergeom

from onesense.features.enrichment import NO_TOKEN, benjamini_hochberg, enrichment, hypergeometric_tail


@st.composite
def draws(draw: st.DrawFn) -> tuple[int, int, int, int]:
    population = draw(st.integers(1, 60_000))
    marked, drawn = draw(st.integers(0, population)), draw(st.integers(0, min(population, 80)))
    return draw(st.integers(0, min(marked, drawn))), population, marked, drawn


@given(draws())
def test_tail_is_that_of_scipy(case: tuple[int, int, int, int]) -> None:
    hits, population, marked, drawn = case
    expected = hypergeom.sf(hits - 1, population, marked, drawn)
    assert hypergeometric_tail(hits, population, marked, drawn) == pytest.approx(
        expected, rel=1e-8, abs=1e-300
    )


def test_tail_of_a_large_text_keeps_its_digits() -> None:
    expected = hypergeom.sf(29, 40_000_000, 300_000, 68)
    assert hypergeometric_tail(30, 40_000_000, 300_000, 68) == pytest.approx(expected, rel=1e-6)


def test_tail_at_its_ends() -> None:
    tail = hypergeometric_tail([0, 3, 4, 5], 10, [4, 4, 4, 4], [9, 9, 9, 9])
    # Of 10 with 4 marked, 9 drawn hold 3 or 4 marked ones: never fewer, never more.
    assert tail[0] == tail[1] == 1.0
    assert tail[2] == pytest.approx(0.6)
    assert tail[3] == 0.0


def test_equal_cases_are_broadcast() -> None:
    tail = hypergeometric_tail([[1, 2, 1], [1, 1, 2]], 50, [[5], [7]], [10, 10, 4])
    assert tail.shape == (2, 3)
    for row, marked in enumerate((5, 7)):
        for column, drawn in enumerate((10, 10, 4)):
            hits = [[1, 2, 1], [1, 1, 2]][row][column]
            assert tail[row, column] == pytest.approx(hypergeom.sf(hits - 1, 50, marked, drawn))


probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@given(probabilities)
def test_q_is_that_of_a_direct_implementation(p: list[float]) -> None:
    found = benjamini_hochberg(np.array(p))
    m = len(p)
    direct = [
        min(1.0, min(other * m / sum(x <= other for x in p) for other in p if other >= one)) for one in p
    ]
    np.testing.assert_allclose(found, direct)
    np.testing.assert_allclose(found, false_discovery_control(p))


@given(probabilities)
def test_q_is_monotone_in_p_and_never_below_it(p: list[float]) -> None:
    array = np.array(p)
    q = benjamini_hochberg(array)
    assert (np.diff(q[np.argsort(array, kind="stable")]) >= 0).all()
    assert (q >= array).all()


def test_q_keeps_the_shape() -> None:
    p = np.array([[0.01, 0.5], [0.02, 0.9]])
    np.testing.assert_allclose(benjamini_hochberg(p), [[0.04, 2 / 3], [0.04, 0.9]])


@given(st.integers(0, 2**32 - 1))
def test_permuting_features_permutes_results(seed: int) -> None:
    generator = np.random.default_rng(seed)
    members = generator.random((4, 30)) < 0.3
    tokens = generator.integers(NO_TOKEN, 30, (6, 5))
    population = generator.integers(1, 9, 30)
    order = generator.permutation(6)
    whole, permuted = enrichment(members, tokens, population), enrichment(members, tokens[order], population)
    np.testing.assert_array_equal(permuted.hits, whole.hits[:, order])
    np.testing.assert_array_equal(permuted.p, whole.p[:, order])
    np.testing.assert_array_equal(permuted.drawn, whole.drawn[order])


def test_counts_are_of_the_draws() -> None:
    members = np.array([[True, True, False, False], [False, False, False, True]])
    found = enrichment(members, np.array([[0, 0, 3], [2, NO_TOKEN, NO_TOKEN]]), np.array([5, 1, 10, 4]))
    assert found.hits.tolist() == [[2, 0], [1, 0]]
    assert found.drawn.tolist() == [3, 1]
    assert found.background.tolist() == [6 / 20, 4 / 20]
    assert found.p[0, 0] == pytest.approx(hypergeom.sf(1, 20, 6, 3))
    assert found.p[:, 1].tolist() == [1.0, 1.0]


def test_a_vocabulary_counts_each_token_once() -> None:
    members = np.array([[True, True, False, False, False]])
    found = enrichment(members, np.array([[0, 1]]))
    assert found.p[0, 0] == pytest.approx(1 / 10)
