"""Score an explanation of one feature, and beside it the explanation of another one."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from onesense.errors import ConfigurationError
from onesense.explain.endpoint.chat import Usage
from onesense.explain.evidence import FeatureEvidence
from onesense.explain.explanation import WHOLE
from onesense.explain.negatives import Negative, Negatives
from onesense.explain.scores.judge import Judge, Judgement
from onesense.explain.scores.metrics import Interval, auroc, balanced_accuracy, right_by_kind, share
from onesense.explain.scores.trials import (
    INTRUDER_CONTEXTS,
    Trial,
    detection_trial,
    fuzz_trial,
    intruder_trials,
)

ScoreKind = Literal["detection", "fuzz", "intruder"]
SCORE_KINDS: tuple[ScoreKind, ...] = get_args(ScoreKind)
INTRUDER_CHANCE = 1 / INTRUDER_CONTEXTS


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """How much a judge is shown.

    Attributes:
        contexts: Test contexts of detection and fuzzing; as many negatives are put beside them.
        fewest: With fewer test contexts or negatives there is no number.
        rounds: Rounds of the intruder, a question each.
    """

    contexts: int = 12
    fewest: int = 4
    rounds: int = 4

    def __post_init__(self) -> None:
        if not INTRUDER_CONTEXTS - 1 <= self.fewest <= self.contexts or self.rounds < 1:
            raise ConfigurationError(
                f"Scores need at least {INTRUDER_CONTEXTS - 1} contexts, and one round.",
                hint="Give larger numbers.",
            )


@dataclass(frozen=True, slots=True)
class Score:
    """How well a judge did, or why nobody knows.

    Attributes:
        feature: Id of the latent.
        kind: ``detection``, ``fuzz`` or ``intruder``.
        accuracy: Balanced accuracy (chance 0.5); of the intruder the share of rounds (chance 0.2). None where
            there is no number.
        auroc: Of the confidences; None where there is no number, and for the intruder.
        shuffled: Whether the judge was given the explanation of another feature.
        sense: Number of the sense, or ``WHOLE``.
        judged: Contexts that were judged, of the intruder rounds.
        missing: Contexts (rounds) whose judgement could not be used; they count as neither right nor wrong.
        by_kind: Of each kind of context how many were judged rightly, and out of how many.
        reason: Why there is no number; empty where there is.
        usage: Tokens that it took.
    """

    feature: int
    kind: ScoreKind
    accuracy: Interval | None
    auroc: Interval | None = None
    shuffled: bool = False
    sense: int = WHOLE
    judged: int = 0
    missing: int = 0
    by_kind: dict[str, tuple[float, int]] = field(default_factory=dict)
    reason: str = ""
    usage: Usage = field(default_factory=Usage)


async def score_feature(
    kinds: Sequence[ScoreKind],
    judge: Judge,
    evidence: FeatureEvidence,
    negatives: Negatives,
    explanation: str | None,
    seed: int,
    *,
    shuffled: str | None = None,
    settings: ScoreSettings | None = None,
) -> list[Score]:
    """Score one explanation; its questions are asked at the same time.

    Args:
        kinds: Which scores.
        judge: Who judges.
        evidence: Of the feature; only its contexts for scoring are shown.
        negatives: Where features do not fire.
        explanation: What is scored; None or empty where there is none: no number, except for the intruder.
        seed: Of the choice and order of contexts.
        shuffled: The explanation of another feature: the same contexts are judged with it too. See
            ``shuffled_explanations``.
        settings: How much is shown.

    Returns:
        A score for each kind; for detection and fuzzing followed by the one of ``shuffled``, where it is given.

    Raises:
        EndpointError: Asking on is of no use.
        BudgetReachedError: The next question could cost more than is left.
        ConfigurationError: There is no such score.
    """
    settings = settings or ScoreSettings()
    drawn, reason = _drawn(evidence, negatives, seed, settings)
    tasks = []
    for kind in dict.fromkeys(kinds):
        if kind not in SCORE_KINDS:
            raise ConfigurationError(
                f"There is no score called {kind!r}.", hint=f"Choose: {', '.join(SCORE_KINDS)}."
            )
        trials = [] if reason else _trials(kind, evidence, drawn, seed, settings)
        if kind == "intruder":
            tasks.append(_intruder(judge, evidence, trials, reason))
            continue
        tasks.append(_judged(kind, judge, evidence, trials, reason, explanation, shuffled=False))
        if shuffled:
            tasks.append(_judged(kind, judge, evidence, trials, reason, shuffled, shuffled=True))
    return list(await asyncio.gather(*tasks))


def _drawn(
    evidence: FeatureEvidence, negatives: Negatives, seed: int, settings: ScoreSettings
) -> tuple[list[Negative], str]:
    """Negatives for all scores of a feature, or why there can be no score."""
    active = len(evidence.test[: settings.contexts])
    if active < settings.fewest:
        few = f"{active} contexts for scoring; it takes {settings.fewest}."
        return [], f"{evidence.note} It has {few}".strip()
    drawn = negatives.draw(evidence.feature, active + settings.rounds, seed=seed, avoid=evidence.test)
    if len(drawn) < settings.fewest:
        return [], f"It fires nearly everywhere: {len(drawn)} texts are without it."
    return drawn, ""


def _trials(
    kind: ScoreKind,
    evidence: FeatureEvidence,
    drawn: Sequence[Negative],
    seed: int,
    settings: ScoreSettings,
) -> list[Trial]:
    """What is shown."""
    active = evidence.test[: settings.contexts]
    generator = np.random.default_rng([seed, evidence.feature, zlib.crc32(kind.encode())])
    if kind == "intruder":
        hard = [one for one in drawn if one.kind != "random"] or drawn
        return intruder_trials(active, hard[: settings.rounds], generator)
    make = detection_trial if kind == "detection" else fuzz_trial
    return [make(active, drawn[: len(active)], generator)]


async def _judged(
    kind: ScoreKind,
    judge: Judge,
    evidence: FeatureEvidence,
    trials: Sequence[Trial],
    reason: str,
    explanation: str | None,
    *,
    shuffled: bool,
) -> Score:
    unknown = Score(evidence.feature, kind, None, shuffled=shuffled, sense=evidence.sense)
    if reason or not explanation:
        return replace(unknown, reason=reason or "There is no explanation.")
    (trial,) = trials
    judgement = await judge.judge(explanation, trial.contexts)
    given = judgement.confidences
    if given is None:
        missing = len(trial.contexts)
        return replace(unknown, missing=missing, reason=_missing(judgement), usage=judgement.usage)
    return replace(
        unknown,
        accuracy=balanced_accuracy(given, trial.truth),
        auroc=auroc(given, trial.truth),
        judged=len(given),
        by_kind=right_by_kind(given, trial.truth, trial.kinds),
        usage=judgement.usage,
    )


async def _intruder(judge: Judge, evidence: FeatureEvidence, trials: Sequence[Trial], reason: str) -> Score:
    if reason:
        return Score(evidence.feature, "intruder", None, reason=reason, sense=evidence.sense)
    judgements = await asyncio.gather(*(judge.find_intruder(trial.contexts) for trial in trials))
    by_kind: dict[str, tuple[float, int]] = {}
    usage, judged, right = Usage(), 0, 0.0
    for trial, judgement in zip(trials, judgements, strict=True):
        usage += judgement.usage
        if judgement.confidences is None:
            continue
        intruder = trial.truth.index(True)
        won = _share_of_choice(judgement.confidences, intruder)
        before, number = by_kind.get(trial.kinds[intruder], (0.0, 0))
        by_kind[trial.kinds[intruder]] = (before + won, number + 1)
        judged, right = judged + 1, right + won
    return Score(
        evidence.feature,
        "intruder",
        share(right, judged) if judged else None,
        sense=evidence.sense,
        judged=judged,
        missing=len(trials) - judged,
        by_kind=dict(sorted(by_kind.items())),
        reason="" if judged else _missing(judgements[0]),
        usage=usage,
    )


def _share_of_choice(confidences: Sequence[float], intruder: int) -> float:
    """1 where the intruder alone has the highest confidence, its share where others have it too, else 0."""
    highest = max(confidences)
    return (confidences[intruder] == highest) / sum(one == highest for one in confidences)


def _missing(judgement: Judgement) -> str:
    return f"The judgement is missing: {judgement.status}. {judgement.detail}".strip()
