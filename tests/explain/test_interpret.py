"""Which questions are asked, and which are not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explain.asked import AskedRun
from explain.planted import ScriptedEndpoint
from onesense.errors import BudgetReachedError, NotFoundError
from onesense.explain.evidence import FeatureEvidence
from onesense.explain.interpret import Explainer, Questions, explain_features, features_of
from onesense.explain.prompts import explain_request
from onesense.store.explanations import ExplanationRow, read_explanations, write_explanations

NUMBER = {0: 0, 1: 1, 2: 3, 3: 2}
"""Senses of each feature."""


class Senses:
    """In place of a reader of measured senses."""

    def senses(self, feature: int) -> int:
        if feature not in NUMBER:
            raise NotFoundError(f"There is no feature {feature} among the measured ones.")
        return NUMBER[feature]

    def evidence(self, whole: FeatureEvidence, sense: int) -> FeatureEvidence:
        return replace(whole, promoted=(*whole.promoted, f"sense{sense}"), sense=sense)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[AskedRun]:
    made = AskedRun(tmp_path, 5, "http://127.0.0.1:9/v1")
    yield made
    made.catalog.close()


def _questions(asked: AskedRun, features: Any, **given: Any) -> Questions:
    return Questions(
        _Words(), features, asked.catalog, _digest, "m", **{"lexical": {}, "senses": Senses(), **given}
    )


class _Words:
    def evidence(self, feature: int) -> FeatureEvidence:
        return FeatureEvidence(feature, promoted=(f"word{feature}",))


def _digest(request: Any) -> str:
    return request.user


def _explain(questions: Questions, asked: AskedRun, endpoint: Any = None) -> tuple[int, list[int]]:
    told: list[int] = []
    explainer = Explainer(endpoint or ScriptedEndpoint(), "m", 2)
    progress = explain_features(
        questions, explainer, asked.catalog, lambda done, _: told.append(done), total=questions.total()
    )
    return asyncio.run(progress), told


def test_a_question_for_each_feature_and_each_of_several_senses(asked: AskedRun) -> None:
    questions = _questions(asked, range(4))
    assert questions.total() == 4 + 3 + 2
    count, told = _explain(questions, asked)
    assert count == questions.total()
    assert told == list(range(1, count + 1))
    rows = read_explanations(asked.catalog)
    assert [(row.feature, row.sense) for row in rows] == [
        (0, -1), (1, -1), (2, -1), (2, 0), (2, 1), (2, 2), (3, -1), (3, 0), (3, 1),
    ]  # fmt: skip
    assert "sense1" in rows[4].made_from
    assert "sense" not in rows[0].made_from
    again = _questions(asked, range(4))
    for _ in range(2):
        assert list(again) == []
        assert again.done == again.total()


def test_without_senses_there_is_one_question_a_feature(asked: AskedRun) -> None:
    questions = _questions(asked, range(5), senses=None)
    assert questions.total() == len(list(questions)) == 5


def test_a_feature_that_was_not_measured_is_told_before_anything_is_asked(asked: AskedRun) -> None:
    with pytest.raises(NotFoundError, match="no feature 4 among the measured"):
        _questions(asked, range(5)).total()


def test_word_sets_are_told_of_the_whole_feature_only(asked: AskedRun) -> None:
    said = "Fires on pronouns."
    requests = [request for _, request in _questions(asked, [2], lexical={2: said}).requests()]
    assert [said in request.user for request in requests] == [True, False, False, False]
    assert requests[1] == explain_request(Senses().evidence(_Words().evidence(2), 0))


def test_what_is_asked_again(asked: AskedRun) -> None:
    """Another question, another model, or no answer at all; not an answer that could not be used."""
    _explain(_questions(asked, range(5), senses=None), asked)
    rows = {row.feature: row for row in read_explanations(asked.catalog)}
    write_explanations(
        asked.catalog,
        [
            replace(rows[0], status="http_error", text=""),
            replace(rows[1], made_from="another question"),
            replace(rows[2], status="unparseable", text=""),
            replace(rows[3], status="refused", text=""),
        ],
    )
    questions = _questions(asked, range(5), senses=None)
    assert [question.evidence.feature for question in questions] == [0, 1]
    assert questions.done == 3
    other = Questions(_Words(), range(5), asked.catalog, _digest, "another", lexical={})
    assert len(list(other)) == 5


def test_where_the_budget_ends_answers_are_kept(asked: AskedRun) -> None:
    class Poor(ScriptedEndpoint):
        async def ask(self, request: Any) -> Any:
            if len(self.requests) == 3:
                raise BudgetReachedError("The budget is reached.")
            return await super().ask(request)

    with pytest.raises(BudgetReachedError):
        _explain(_questions(asked, range(5), senses=None), asked, Poor())
    assert [row.feature for row in read_explanations(asked.catalog)] == [0, 1, 2]


def test_which_features(asked: AskedRun) -> None:
    assert features_of(asked.catalog, None, None) == [0, 1, 2, 3, 4]
    assert features_of(asked.catalog, [4, 1, 4], None) == [1, 4]
    assert features_of(asked.catalog, None, 2) == [0, 1]
    with pytest.raises(NotFoundError, match="no feature 5"):
        features_of(asked.catalog, [1, 5], None)


def test_a_feature_that_the_catalogue_lacks_is_not_written(asked: AskedRun) -> None:
    with pytest.raises(NotFoundError, match="no feature 9"):
        write_explanations(asked.catalog, [ExplanationRow(0, text="a"), ExplanationRow(9, text="b")])
    assert read_explanations(asked.catalog) == []
