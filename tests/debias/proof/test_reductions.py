"""Reductions, how far a control is behind, and the null of random features, on made-up columns."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesense.bias.benchmarks.kl import KlDivergence
from onesense.bias.metric import Columns, Direction, Metric, Role, line_of, mean_of, ratio, spread
from onesense.bias.statistics.estimate import compare
from onesense.debias.proof.reductions import against_null, compare_variants, reduction

CLUSTERS = [f"job {number // 3}" for number in range(60)]
DRAWS = 400
FINITE = st.floats(-50, 50)


def _metric(direction: Direction, parity: float | None = None) -> Metric:
    return Metric("m", "m", "", direction, Role.BIAS, "A number.", mean_of("v"), ratio, parity)


GAP = _metric(Direction.PARITY, 2.0)
SPREAD = Metric("spread", "s", "", Direction.LOWER, Role.BIAS, "A number.", line_of("x", "v"), spread)
MARGIN = _metric(Direction.HIGHER)


@pytest.fixture
def base() -> Columns:
    generator = np.random.default_rng(3)
    return {"v": generator.normal(3.0, 1.0, 60), "x": generator.normal(size=60)}


def _scaled(columns: Columns, factor: float) -> Columns:
    return {**columns, "v": columns["v"] * factor}


@given(before=FINITE, after=FINITE)
def test_parity_is_a_distance(before: float, after: float) -> None:
    if abs(before - 2) < 1e-3:
        return
    found = float(reduction(GAP, before, after))
    assert found == pytest.approx(1 - abs(after - 2) / abs(before - 2))
    mirrored = float(reduction(GAP, before, 4 - after))
    assert mirrored == pytest.approx(found)


@given(before=st.floats(0.1, 50), after=st.floats(0, 50))
def test_lower_is_a_share_and_higher_is_what_is_kept(before: float, after: float) -> None:
    assert float(reduction(SPREAD, before, after)) == pytest.approx(1 - after / before)
    assert float(reduction(MARGIN, before, after)) == pytest.approx(after / before - 1)


def test_nothing_to_reduce_is_undefined() -> None:
    assert math.isnan(float(reduction(GAP, 2.0, 3.0)))


def test_a_spread_made_smaller_by_a_known_share(base: Columns) -> None:
    recipe, control = compare_variants(
        "b", SPREAD, [base, _scaled(base, 0.4), _scaled(base, 0.7)], CLUSTERS, draws=DRAWS, seed=0
    )
    assert recipe.reduction.value == pytest.approx(0.6)
    # Every draw shrinks by the same share.
    assert (recipe.reduction.low, recipe.reduction.high) == (pytest.approx(0.6), pytest.approx(0.6))
    assert recipe.behind is None
    assert recipe.p is None
    assert control.behind is not None
    assert control.behind.value == pytest.approx(0.3)
    assert control.behind.low == pytest.approx(0.3)
    assert control.p is not None
    assert control.p < 0.01


def test_the_p_is_that_of_compare(base: Columns) -> None:
    noise = np.random.default_rng(5).normal(size=60)
    recipe, control = {**base, "v": base["v"] * 0.9}, {**base, "v": base["v"] * 0.9 + 0.2 * noise}
    found = compare_variants("b", GAP, [base, recipe, control], CLUSTERS, draws=DRAWS, seed=4)
    assert found[1].p == compare(GAP, recipe, control, CLUSTERS, draws=DRAWS, seed=4).p
    assert 0 < float(found[1].p or 0) < 1
    behind = found[1].behind
    assert behind is not None
    assert behind.low < behind.value < behind.high
    assert behind.value == pytest.approx(found[0].reduction.value - found[1].reduction.value)


def test_draws_are_shared_so_that_pairs_are_narrower(base: Columns) -> None:
    noise = 0.02 * np.random.default_rng(6).normal(size=60)
    recipe, control = {**base, "v": base["v"] - 0.5}, {**base, "v": base["v"] - 0.4 + noise}
    one, other = compare_variants("b", GAP, [base, recipe, control], CLUSTERS, draws=DRAWS, seed=0)
    assert other.behind is not None
    width = other.behind.high - other.behind.low
    assert width < 0.5 * (one.reduction.high - one.reduction.low)


def test_what_changes_nothing_reduces_exactly_nothing(base: Columns) -> None:
    recipe, same = compare_variants(
        "b", SPREAD, [base, _scaled(base, 0.5), base], CLUSTERS, draws=DRAWS, seed=0
    )
    assert (same.reduction.value, same.reduction.low, same.reduction.high) == (0.0, 0.0, 0.0)
    assert same.behind is not None
    assert same.behind.value == recipe.reduction.value


def test_kl_is_told_in_its_own_unit() -> None:
    (kl,) = KlDivergence.metrics
    generator = np.random.default_rng(1)
    ones = np.ones(60)
    tables = [{"kl": size * generator.random(60), "positions": ones} for size in (0.0, 0.01, 0.02)]
    recipe, control = compare_variants("kl", kl, tables, CLUSTERS, draws=DRAWS, seed=0)
    assert recipe.reduction.value == pytest.approx(-recipe.value)
    assert recipe.reduction.low < recipe.reduction.value < recipe.reduction.high < 0
    assert control.behind is not None
    assert control.behind.value == pytest.approx(control.value - recipe.value)


def test_an_item_without_a_score_counts_for_nobody(base: Columns) -> None:
    lost = {**base, "v": base["v"] * 0.5}
    lost["v"][:3] = np.nan
    recipe, control = compare_variants(
        "b", SPREAD, [base, _scaled(base, 0.5), lost], CLUSTERS, draws=DRAWS, seed=0
    )
    assert recipe.value == pytest.approx(control.value)
    assert recipe.value == pytest.approx(0.5 * float(np.std(base["v"][3:])))


@given(draws=st.lists(st.floats(-1, 1), min_size=2, max_size=30), recipe=st.floats(-1, 1))
def test_the_rank_counts_draws_that_are_as_good(draws: list[float], recipe: float) -> None:
    p, ahead = against_null(recipe, draws)
    as_good = sum(draw >= recipe - 1e-9 for draw in draws)
    assert p == (1 + as_good) / (1 + len(draws))
    if as_good == 0:
        assert p == 1 / (1 + len(draws))
        assert ahead > 0


@settings(max_examples=30)
@given(shift=st.floats(-5, 5))
def test_how_far_ahead_in_standard_deviations(shift: float) -> None:
    draws = np.random.default_rng(0).normal(0.3, 0.1, 20)
    _, ahead = against_null(float(draws.mean() + shift * draws.std(ddof=1)), list(draws))
    assert ahead == pytest.approx(shift, abs=1e-9)


def test_alike_and_undefined_draws() -> None:
    assert against_null(0.5, [0.1, 0.1, 0.1]) == (0.25, math.inf)
    assert against_null(0.1, [0.1, 0.1, 0.1]) == (1.0, 0.0)
    p, ahead = against_null(math.nan, [0.1, 0.2])
    assert p == 1.0
    assert math.isnan(ahead)
    assert against_null(0.5, [0.1, math.nan])[0] == pytest.approx(2 / 3)
