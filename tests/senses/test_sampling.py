"""Contexts that stand for a unit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from onesense.senses.activity import Firings
from onesense.senses.sampling import sample_all, sample_contexts, shares


def _firings(position: list[int], value: list[float]) -> Firings:
    return Firings(np.array([0, len(position)]), np.array(position, np.int32), np.array(value, np.float32))


places = st.dictionaries(st.integers(0, 2000), st.floats(1 / 64, 64, width=32), max_size=80)


@given(places, st.integers(1, 40), st.integers(0, 1000))
def test_contexts_are_firings_that_lie_apart_and_never_come_twice(
    fired: dict[int, float], number: int, seed: int
) -> None:
    position = sorted(fired)
    sample = sample_contexts(_firings(position, [fired[at] for at in position]), 0, number, seed=seed)
    assert len(sample) == min(number, len({at // 32 for at in position}))
    assert len({int(at) // 32 for at in sample.position}) == len(sample)
    assert [fired[int(at)] for at in sample.position] == sample.value.tolist()


@given(places, st.integers(1, 40), st.integers(0, 1000))
def test_the_first_contexts_are_the_smaller_sample(fired: dict[int, float], number: int, seed: int) -> None:
    position = sorted(fired)
    firings = _firings(position, [fired[at] for at in position])
    small, large = (sample_contexts(firings, 0, size, seed=seed) for size in (number, 2 * number))
    assert_array_equal(small.position, large.position[:number])
    again = sample_contexts(firings, 0, 2 * number, seed=seed)
    assert_array_equal(again.position, large.position)


@settings(max_examples=20)
@given(st.floats(1.5, 20))
def test_the_first_context_is_drawn_by_activation(ratio: float) -> None:
    firings = _firings([0, 40], [1.0, ratio])
    first = [int(sample_contexts(firings, 0, 1, seed=seed).position[0]) for seed in range(400)]
    wanted = ratio / (1 + ratio)
    # Four standard deviations of a share of 400 draws.
    assert abs(np.mean(np.array(first) == 40) - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / 400) + 1e-9


def test_of_one_stretch_the_stronger_comes_more_often() -> None:
    firings = _firings([3, 4], [9.0, 1.0])
    taken = [int(sample_contexts(firings, 0, 5, seed=seed).position[0]) for seed in range(400)]
    assert 0.84 < np.mean(np.array(taken) == 3) < 0.96


def test_seeds_and_units_draw_differently() -> None:
    position, value = np.arange(0, 32 * 60, 32, dtype=np.int32), np.ones(60, np.float32)
    firings = Firings(np.array([0, 60, 60, 120]), np.tile(position, 2), np.tile(value, 2))
    one, none, other = sample_all(firings, 20, seed=0)
    assert len(none) == 0
    assert one.position.tolist() != other.position.tolist()
    assert one.position.tolist() != sample_contexts(firings, 0, 20, seed=1).position.tolist()


def test_shares_are_of_the_activation() -> None:
    assert_allclose(shares(np.array([1.0, 3.0, 4.0]), np.array([2, 0, 0]), 3), [7 / 8, 0, 1 / 8])
