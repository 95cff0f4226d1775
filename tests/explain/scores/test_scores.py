"""Planted features: what a true explanation scores, what a wrong one does, and that nothing leaks."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest

from explain.planted import FEATURES, SILENT, Oracle, ScriptedEndpoint, rule
from onesense.errors import BudgetReachedError, ConfigurationError
from onesense.explain.endpoint.chat import ChatReply, Usage
from onesense.explain.llm import explain
from onesense.explain.prompts import ConfidenceAnswer, IntruderAnswer
from onesense.explain.scores.judge import Judgement, LlmJudge
from onesense.explain.scores.score import SCORE_KINDS, ScoreSettings, score_feature
from onesense.explain.scores.summary import shuffled_explanations, summarise

RULES = {feature: rule(feature) for feature in range(FEATURES)}


def scored(
    planted, judge, *, features=range(FEATURES), explanations=RULES, kinds=SCORE_KINDS, seed=0, **more
):
    negatives = planted.negatives()
    others = shuffled_explanations(explanations, seed)

    async def every():
        with planted.reader(more.pop("split", 0)) as reader:
            return [
                score
                for feature in features
                for score in await score_feature(
                    kinds,
                    judge,
                    reader.evidence(feature),
                    negatives,
                    explanations.get(feature),
                    seed,
                    shuffled=others.get(feature),
                    **more,
                )
            ]

    return asyncio.run(every())


def test_true_explanations_score_and_shuffled_ones_do_not(planted) -> None:
    scores = scored(planted, Oracle())
    assert len(scores) == FEATURES * 5
    detection, fuzz, intruder = summarise(scores)
    for found in (detection, fuzz):
        assert found.features == FEATURES
        assert found.accuracy.value >= 0.95
        assert found.accuracy.low >= 0.95
        assert found.auroc.value >= 0.95
        assert found.shuffled.low <= 0.5 <= found.shuffled.high
        assert found.gain.low > 0.35
        assert found.missing == found.without == 0
    assert intruder.accuracy.value >= 0.95
    assert intruder.chance == 0.2
    assert intruder.shuffled is None
    assert all(share >= 0.95 for share in detection.by_kind.values())
    assert set(detection.by_kind) == {"active", "co_firing", "nearest", "random"}
    assert set(fuzz.by_kind) == {"active", "wrong_marks", "co_firing", "nearest", "random"}


def test_what_is_shown_is_balanced_and_tells_nothing(planted) -> None:
    judge = Oracle()
    (score,) = scored(planted, judge, features=[0], explanations={0: rule(0)}, kinds=["detection"])
    shown = judge.shown
    assert score.by_kind["active"][1] == score.judged / 2 == len(shown) / 2
    assert not any(any(one.marks) for one in shown)
    judge = Oracle()
    (score,) = scored(planted, judge, features=[0], explanations={0: rule(0)}, kinds=["fuzz"])
    assert Counter(sum(one.marks) for one in judge.shown).keys() <= {1, 2}
    assert score.by_kind["active"][1] == score.judged / 2
    assert score.by_kind["wrong_marks"][1] == 4


def test_no_test_context_is_in_a_prompt_of_the_whole_run(planted) -> None:
    endpoint = ScriptedEndpoint()
    hidden: set[str] = set()
    shown: set[str] = set()
    with planted.reader() as reader:
        for feature in range(FEATURES):
            evidence = reader.evidence(feature)
            hidden |= {"".join(one.pieces).strip() for one in evidence.test}
            shown |= {"".join(one.pieces).strip() for one in evidence.train}
            asyncio.run(explain(endpoint, evidence))
    plain = [request.user.replace("<<", "").replace(">>", "") for request in endpoint.requests]
    assert sum(text in prompt for prompt in plain for text in shown) >= len(shown)
    assert len(hidden) > 100
    assert not [text for prompt in plain for text in hidden if text in prompt]
    # Nor is any other text of a test document, and none of a prompt's texts is judged.
    judge = Oracle()
    scored(planted, judge)
    judged = {"".join(one.pieces).strip() for one in judge.shown}
    assert len(judged) > 150
    assert not [text for prompt in plain for text in judged if text in prompt]


def test_another_seed_shows_other_contexts(planted) -> None:
    judges = [Oracle(), Oracle(), Oracle()]
    for judge, seed in zip(judges, (0, 0, 1), strict=True):
        scored(planted, judge, features=[3], kinds=["detection"], seed=seed)
    first, again, other = ([one.token_ids for one in judge.shown] for judge in judges)
    assert first == again
    assert first != other


def test_features_without_contexts_have_no_number_and_say_why(planted) -> None:
    scores = scored(planted, Oracle(), features=[SILENT], explanations={SILENT: rule(1), 1: rule(2)})
    assert {score.kind for score in scores} == set(SCORE_KINDS)
    assert all(score.accuracy is None and "never fires" in score.reason for score in scores)
    assert all(score.judged == score.missing == 0 for score in scores)
    (score,) = scored(planted, Oracle(), features=[0], explanations={}, kinds=["detection"])
    assert score.accuracy is None
    assert score.reason == "There is no explanation."
    (intruder,) = scored(planted, Oracle(), features=[0], explanations={}, kinds=["intruder"])
    assert intruder.accuracy.value == 1


@pytest.mark.parametrize("status", ["refused", "truncated", "unparseable", "http_error"])
def test_failures_are_missing_and_no_score(planted, status) -> None:
    reply = ChatReply(status, detail="why", usage=Usage(9, 0, 1))
    scores = scored(planted, LlmJudge(ScriptedEndpoint(reply)), features=[0, 1])
    assert all(score.accuracy is None and score.auroc is None for score in scores)
    assert all(f"{status}. why" in score.reason and score.missing for score in scores)
    for found in summarise(scores):
        assert found.accuracy is None
        assert found.features == 0
        assert found.missing == found.asked > 0
        assert found.without == 2


def test_some_rounds_may_be_missing(planted) -> None:
    class Forgetful(Oracle):
        calls = 0

        async def find_intruder(self, contexts):
            self.calls += 1
            return Judgement(None, "refused") if self.calls == 2 else await super().find_intruder(contexts)

    (score,) = scored(planted, Forgetful(), features=[0], kinds=["intruder"])
    assert (score.judged, score.missing, score.accuracy.value) == (3, 1, 1.0)
    assert score.accuracy.low < 0.6


def test_a_judge_that_says_nothing_of_use_is_at_chance(planted) -> None:
    scores = scored(planted, LlmJudge(ScriptedEndpoint()), kinds=["detection", "fuzz"])
    assert all(score.accuracy.value == score.auroc.value == 0.5 for score in scores)

    class Undecided(Oracle):
        async def find_intruder(self, contexts):
            return Judgement((5.0,) * len(contexts))

    (score,) = scored(planted, Undecided(), features=[0], kinds=["intruder"])
    assert score.accuracy.value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("method", "answer", "says"),
    [
        ("judge", ConfidenceAnswer(confidence=[1, 2]), "2 numbers came for 3 contexts"),
        ("find_intruder", IntruderAnswer(intruder=4), "no context 4"),
    ],
)
def test_answers_that_do_not_fit_are_unparseable(planted, method, answer, says) -> None:
    judge = Oracle()
    scored(planted, judge, features=[0], kinds=["fuzz"])
    three = judge.shown[:3]
    llm = LlmJudge(ScriptedEndpoint(ChatReply("ok", answer)))
    asked = llm.judge("x", three) if method == "judge" else llm.find_intruder(three)
    judgement = asyncio.run(asked)
    assert (judgement.status, judgement.confidences) == ("unparseable", None)
    assert says in judgement.detail


def test_budget_ends_it(planted) -> None:
    class Poor:
        async def ask(self, request):
            raise BudgetReachedError("The budget is used up.")

    with pytest.raises(BudgetReachedError):
        scored(planted, LlmJudge(Poor()), features=[0])


def test_settings_are_checked(planted) -> None:
    with pytest.raises(ConfigurationError, match="no score called 'simulation'"):
        scored(planted, Oracle(), features=[0], kinds=["simulation"])
    with pytest.raises(ConfigurationError):
        ScoreSettings(contexts=3, fewest=4)


def test_nobody_gets_his_own_explanation() -> None:
    texts = {n: f"text {n % 7}" for n in range(50)} | {99: ""}
    given = shuffled_explanations(texts, seed=0)
    assert given[99] is None
    assert all(given[n] != texts[n] for n in range(50))
    assert given == shuffled_explanations(texts, seed=0) != shuffled_explanations(texts, seed=1)
    distinct = shuffled_explanations({n: str(n) for n in range(50)}, seed=0)
    assert sorted(distinct.values(), key=int) == [str(n) for n in range(50)]
    assert shuffled_explanations({1: "a", 2: "a"}, seed=0) == {1: None, 2: None}
    assert shuffled_explanations({}, seed=0) == {}
    assert np.unique(list(distinct)).size == 50
