"""Scores over many features, and the baseline that each of them stands beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onesense.bias.metric import Direction, Metric, Role, mean_of, ratio
from onesense.bias.statistics.estimate import compare, estimate
from onesense.explain.scores.metrics import Interval
from onesense.explain.scores.score import INTRUDER_CHANCE, SCORE_KINDS, Score, ScoreKind


def shuffled_explanations(explanations: Mapping[int, str], seed: int) -> dict[int, str | None]:
    """For each feature the explanation of another one, each given to one: how a wrong explanation scores.

    Args:
        explanations: Texts by feature; empty ones are left out.
        seed: Of the order.

    Returns:
        A text that differs from the feature's own, or None where there is none.
    """
    features = sorted(feature for feature, text in explanations.items() if text)
    order = [features[index] for index in np.random.default_rng(seed).permutation(len(features))]
    found: dict[int, str | None] = dict.fromkeys(explanations)
    for place, feature in enumerate(order):
        # Round the circle: nobody gets his own, and equal texts are passed over.
        others = (order[(place + step) % len(order)] for step in range(1, len(order)))
        texts = (explanations[other] for other in others)
        found[feature] = next((text for text in texts if text != explanations[feature]), None)
    return found


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """One kind of score over features.

    Attributes:
        kind: Which.
        features: Features with a number.
        accuracy: Mean over them (balanced accuracy; of the intruder share of rounds), with the interval of drawing
            features; None where there are none.
        auroc: Mean of the AUROC; None where there are none.
        shuffled: Mean accuracy with the explanations of other features; None where it was not measured.
        gain: Accuracy minus that of ``shuffled`` over the features that have both, paired.
        chance: What guessing gives.
        without: Features without a number.
        missing: Contexts (rounds) whose judgement could not be used, and of all that were asked.
        asked: Contexts (rounds) that a judge was asked about.
        reasons: Why features have no number, and how many.
        by_kind: Of each kind of context the share that was judged rightly.
    """

    kind: ScoreKind
    features: int
    accuracy: Interval | None
    auroc: Interval | None
    shuffled: Interval | None
    gain: Interval | None
    chance: float
    without: int
    missing: int
    asked: int
    reasons: dict[str, int] = field(default_factory=dict)
    by_kind: dict[str, float] = field(default_factory=dict)


def summarise(scores: Iterable[Score], *, draws: int = 2_000, seed: int = 0) -> list[ScoreSummary]:
    """Gather scores of many features, a summary for each kind that occurs.

    Args:
        scores: Of any features, senses and kinds.
        draws: Bootstrap draws of features.
        seed: Of the draws.
    """
    every = list(scores)
    return [
        _summary(kind, own, draws, seed)
        for kind in SCORE_KINDS
        if (own := [one for one in every if one.kind == kind])
    ]


def _summary(kind: ScoreKind, scores: list[Score], draws: int, seed: int) -> ScoreSummary:
    true = {(one.feature, one.sense): one for one in scores if not one.shuffled}
    other = {(one.feature, one.sense): one for one in scores if one.shuffled}
    known = {key: one.accuracy.value for key, one in true.items() if one.accuracy is not None}
    baseline = {key: one.accuracy.value for key, one in other.items() if one.accuracy is not None}
    areas = {key: one.auroc.value for key, one in true.items() if one.auroc is not None}
    both = sorted(known.keys() & baseline.keys())
    right: Counter[str] = Counter()
    number: Counter[str] = Counter()
    for one in true.values():
        for name, (won, of) in one.by_kind.items():
            right[name] += won  # type: ignore[assignment]
            number[name] += of
    return ScoreSummary(
        kind,
        features=len(known),
        accuracy=_mean(known, draws, seed),
        auroc=_mean(areas, draws, seed),
        shuffled=_mean(baseline, draws, seed),
        gain=_gain(known, baseline, both, draws, seed),
        chance=INTRUDER_CHANCE if kind == "intruder" else 0.5,
        without=len(true) - len(known),
        missing=sum(one.missing for one in scores),
        asked=sum(one.missing + one.judged for one in scores),
        reasons=dict(Counter(one.reason for one in true.values() if one.reason).most_common()),
        by_kind={name: right[name] / number[name] for name in sorted(number)},
    )


_Key = tuple[int, int]
_MEAN = Metric(
    "accuracy",
    "accuracy",
    "",
    Direction.HIGHER,
    Role.ABILITY,
    "Share of contexts that are judged rightly.",
    mean_of("accuracy"),
    ratio,
)


def _mean(values: Mapping[_Key, float], draws: int, seed: int) -> Interval | None:
    """Mean with the bootstrap over features; the senses of one feature are drawn together."""
    if not values:
        return None
    keys = sorted(values)
    columns = {"accuracy": np.array([values[key] for key in keys])}
    found = estimate(_MEAN, columns, [str(feature) for feature, _ in keys], draws=draws, seed=seed)
    return Interval(found.value, found.low, found.high)


def _gain(
    true: Mapping[_Key, float], other: Mapping[_Key, float], keys: list[_Key], draws: int, seed: int
) -> Interval | None:
    if not keys:
        return None
    before, after = ({"accuracy": np.array([side[key] for key in keys])} for side in (other, true))
    clusters = [str(feature) for feature, _ in keys]
    found = compare(_MEAN, before, after, clusters, draws=draws, seed=seed)
    return Interval(found.difference, found.low, found.high)
