"""Numbers from judgements."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from onesense.explain.scores.metrics import auroc, balanced_accuracy, right_by_kind, share


@pytest.mark.parametrize(("right", "of"), [(0, 5), (3, 8), (8, 8)])
def test_share_is_wilsons(right, of) -> None:
    expected = binomtest(right, of).proportion_ci(method="wilson")
    assert share(right, of) == pytest.approx((right / of, expected.low, expected.high))


def test_values_equal_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        truth = generator.permutation([True] * 7 + [False] * 9)
        given = generator.choice([0, 1, 2, 3, 4, 6, 7, 8, 9, 10], 16)
        assert balanced_accuracy(given, truth).value == pytest.approx(
            balanced_accuracy_score(truth, given > 5)
        )
        found = auroc(given, truth)
        assert found.value == pytest.approx(roc_auc_score(truth, given))
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_who_cannot_tell_is_at_chance() -> None:
    truth = [True] * 3 + [False] * 5
    assert balanced_accuracy([5] * 8, truth).value == 0.5
    assert auroc([5] * 8, truth).value == 0.5
    # Nor does it help to say the same of everything.
    assert balanced_accuracy([10] * 8, truth).value == 0.5


def test_all_right_is_not_certain() -> None:
    truth = [True] * 8 + [False] * 8
    given = [10] * 8 + [0] * 8
    for found in (balanced_accuracy(given, truth), auroc(given, truth)):
        assert found.value == found.high == 1
        assert 0.6 < found.low < 0.9


@pytest.mark.parametrize("measure", [balanced_accuracy, auroc])
def test_intervals_cover(measure) -> None:
    generator = np.random.default_rng(1)
    truth = np.array([True] * 12 + [False] * 12)
    # Confidences of two normal populations: accuracy and AUROC are known.
    expected = {balanced_accuracy: 0.69146, auroc: 0.76025}[measure]
    covered = []
    for _ in range(800):
        given = 5 + generator.standard_normal(24) + np.where(truth, 0.5, -0.5)
        found = measure(given, truth)
        covered.append(found.low <= expected <= found.high)
    assert 0.92 < np.mean(covered) < 0.99


def test_kinds_are_counted_apart() -> None:
    found = right_by_kind([9, 2, 5, 0], [True, True, False, False], ["active", "active", "random", "random"])
    assert found == {"active": (1.0, 2), "random": (1.5, 2)}
