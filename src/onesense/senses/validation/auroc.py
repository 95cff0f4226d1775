"""Area under the ROC curve of telling unions from single features, with intervals from draws of pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from onesense.senses.field_metrics.estimate import Estimate, check_draws

Scores = NDArray[np.float64]


class PairScores(NamedTuple):
    """One score for every set that was made of pairs of features.

    Attributes:
        singles: Of the two features alone, [pairs, 2].
        unions: Of both together, [pairs].
    """

    singles: Scores
    unions: Scores

    def oriented(self) -> tuple[PairScores, int]:
        """With the sign that is right on the first half of the pairs, and that sign.

        A cheap measure does not say which way it points. Its AUROC is then taken over all pairs, which favours
        it a little and never us.
        """
        half = max(1, len(self.unions) // 2)
        first = PairScores(self.singles[:half], self.unions[:half])
        sign = 1 if auroc(first) >= 0.5 else -1
        return PairScores(sign * self.singles, sign * self.unions), sign


def auroc(scores: PairScores) -> float:
    """Chance that a union scores above a single feature, ties counting half."""
    truth = np.repeat([0, 1], [scores.singles.size, scores.unions.size])
    return float(roc_auc_score(truth, np.concatenate([scores.singles.ravel(), scores.unions])))


def drawn_aurocs(scores: PairScores, *, draws: int, seed: int) -> Scores:
    """AUROC of pairs drawn with replacement, [draws]; the same seed draws the same pairs for every score."""
    pairs = len(scores.unions)
    check_draws(draws, seed)
    above = scores.unions[:, None, None] > scores.singles[None]
    equal = scores.unions[:, None, None] == scores.singles[None]
    won = (above + 0.5 * equal).mean(axis=2)
    counts = np.random.default_rng([seed, pairs]).multinomial(pairs, np.full(pairs, 1 / pairs), size=draws)
    return np.asarray(np.einsum("di,ij,dj->d", counts, won, counts, optimize=True) / pairs**2)


def interval(value: float, drawn: Scores) -> Estimate:
    """A value with the middle 95 % of its draws."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
