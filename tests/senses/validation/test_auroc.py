from __future__ import annotations

import numpy as np
import pytest

from onesense.senses.validation.auroc import PairScores, auroc, drawn_aurocs, interval


def scores(pairs: int, gap: float, seed: int = 0) -> PairScores:
    generator = np.random.default_rng(seed)
    return PairScores(generator.standard_normal((pairs, 2)), generator.standard_normal(pairs) + gap)


def test_the_area_is_the_share_of_comparisons_that_a_union_wins() -> None:
    one = PairScores(np.array([[0.0, 1.0], [2.0, 2.0]]), np.array([1.0, 3.0]))
    # 1 beats 0, ties with 1 and loses to both 2; 3 beats all four
    assert auroc(one) == pytest.approx((1 + 0.5 + 4) / 8)


def test_draws_lie_around_the_area_and_are_the_same_for_every_score() -> None:
    one = scores(200, 1.0)
    drawn = drawn_aurocs(one, draws=500, seed=0)
    assert drawn.mean() == pytest.approx(auroc(one), abs=0.01)
    assert 0.005 < drawn.std() < 0.05
    moved = PairScores(one.singles * 2 + 1, one.unions * 2 + 1)
    np.testing.assert_array_equal(drawn, drawn_aurocs(moved, draws=500, seed=0))


def test_a_draw_is_the_area_of_the_pairs_that_it_took() -> None:
    one = scores(15, 0.5)
    counts = np.random.default_rng([3, 15]).multinomial(15, np.full(15, 1 / 15), size=4)
    expected = [
        auroc(PairScores(np.repeat(one.singles, row, axis=0), np.repeat(one.unions, row))) for row in counts
    ]
    np.testing.assert_allclose(drawn_aurocs(one, draws=4, seed=3), expected)


def test_the_interval_covers_the_truth() -> None:
    truth = auroc(scores(20_000, 1.0, seed=99))
    covered = 0
    for seed in range(60):
        one = scores(80, 1.0, seed=seed)
        found = interval(auroc(one), drawn_aurocs(one, draws=400, seed=0))
        covered += found.low <= truth <= found.high
    assert covered >= 52


def test_the_sign_comes_from_the_first_half() -> None:
    falling = scores(100, -2.0)
    turned, sign = falling.oriented()
    assert sign == -1
    assert auroc(turned) == pytest.approx(1 - auroc(falling))
    mixed = PairScores(falling.singles.copy(), falling.unions.copy())
    mixed.unions[50:] += 20
    assert mixed.oriented()[1] == -1
