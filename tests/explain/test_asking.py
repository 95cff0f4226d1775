"""Who is asked, and what it may cost."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from explain.asked import AskedRun
from explain.endpoint.asking import KEY
from explain.endpoint.questions import question
from onesense.errors import ConfigurationError
from onesense.explain.asking import DEFAULT_MODEL, Prices, endpoint_settings
from onesense.explain.endpoint.chat import ChatReply, Usage
from onesense.explain.endpoint.settings import OPENAI_URL
from onesense.explain.evidence import FeatureEvidence
from onesense.explain.scores.score import ScoreSettings
from onesense.store.explanations import ExplanationRow, write_explanations

FEATURES = 100


def _serve(server: HTTPServer, *names: str) -> str:
    listed = [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in names]
    server.expect_request("/v1/models").respond_with_json({"object": "list", "data": listed})
    return server.url_for("/v1")


@pytest.fixture
def asked(tmp_path: Path):
    made = AskedRun(tmp_path, FEATURES, OPENAI_URL)
    yield made
    made.catalog.close()


@pytest.mark.parametrize("url", [None, OPENAI_URL, OPENAI_URL + "/"])
def test_openai_is_asked_for_the_originals_model(url: str | None) -> None:
    settings = endpoint_settings(url, None, SecretStr(KEY), concurrency=3, max_tokens=None)
    assert (settings.model, settings.concurrency, settings.max_tokens) == (DEFAULT_MODEL, 3, None)
    assert settings.is_openai


def test_a_named_model_is_taken_without_asking() -> None:
    settings = endpoint_settings("http://127.0.0.1:9/v1", "mine", None)
    assert (settings.model, settings.key) == ("mine", "")


def test_the_only_model_of_a_server_is_taken(httpserver: HTTPServer) -> None:
    settings = endpoint_settings(_serve(httpserver, "small"), None, None, max_tokens=50)
    assert (settings.model, settings.max_tokens) == ("small", 50)


def test_of_several_models_one_has_to_be_named(httpserver: HTTPServer) -> None:
    names = [f"model-{number}" for number in range(12)]
    with pytest.raises(ConfigurationError, match="Which model of .* model-0, .*model-7") as caught:
        endpoint_settings(_serve(httpserver, *names), None, None)
    assert "model-8" not in str(caught.value)
    assert "--model" in (caught.value.hint or "")


def test_a_server_that_lists_none_is_told(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/v1/models").respond_with_data("no", status=404)
    with pytest.raises(ConfigurationError, match="none that it would list"):
        endpoint_settings(httpserver.url_for("/v1"), None, None)


def test_the_estimate_counts_what_is_open(asked: AskedRun) -> None:
    with asked.asking() as asking:
        assert asking.estimate(asked.questions(asking)).requests == FEATURES
        assert asking.estimate(asked.questions(asking, 10)).requests == 10
        rows = [
            ExplanationRow(one.evidence.feature, model="m", text="a", made_from=one.made_from)
            for one in asked.questions(asking, 40)
        ]
        write_explanations(asked.catalog, rows)
        assert asking.estimate(asked.questions(asking)).requests == FEATURES - 40
        assert asking.estimate(asked.questions(asking, 50)).requests == 10
        assert asking.estimate(asked.questions(asking, 40)).requests == 0


def test_the_estimate_counts_senses(asked: AskedRun) -> None:
    class Three:
        def senses(self, feature: int) -> int:
            return 3

        def evidence(self, whole: FeatureEvidence, sense: int) -> FeatureEvidence:
            return replace(whole, sense=sense)

    with asked.asking() as asking:
        assert asking.estimate(asked.questions(asking, senses=Three())).requests == 4 * FEATURES


def test_longer_answers_may_cost_more(asked: AskedRun) -> None:
    prices = Prices(price_input=0.0, price_output=1.0)
    with asked.asking(prices) as usual, asked.asking(prices, max_tokens=4_000) as longer:
        assert usual.estimate(asked.questions(usual, 1)).completion_tokens < 1_000
        estimate = longer.estimate(asked.questions(longer, 1))
    assert estimate.completion_tokens == 4_000
    assert estimate.cost_high == Decimal("0.004")


def test_the_queue_is_half_the_price_and_judging_is_not(asked: AskedRun) -> None:
    model = {"model": "gpt-4o"}
    with asked.asking(**model) as at_once, asked.asking(Prices(batch=True), **model) as queued:
        whole, half = (one.estimate(asked.questions(one)) for one in (at_once, queued))
        assert whole.cost_high == 2 * half.cost_high > 0
        assert "in the batch queue" in str(half)
        evidence = [FeatureEvidence(0)]
        scores = [one.estimate_scores(evidence, 5, ["detection"], authors=1) for one in (at_once, queued)]
        assert scores[0].cost_high == scores[1].cost_high > 0
        queued.ledger.book(ChatReply("ok", usage=Usage(1_000_000, 0, 0)))
        assert queued.ledger.spending.cost == Decimal("1.25")
        queued.score({}, "llm", ["detection"], _Nothing(), _Nothing(), asked.catalog, lambda *_: None)
        queued.ledger.book(ChatReply("ok", usage=Usage(1_000_000, 0, 0)))
        assert queued.ledger.spending.cost == Decimal("1.25") + Decimal("2.5")


class _Nothing:
    seed = 0


def test_scoring_is_estimated_by_its_questions(asked: AskedRun) -> None:
    with asked.asking() as asking:
        count = [
            asking.estimate_scores([FeatureEvidence(0)], 10, kinds, authors=authors).requests
            for kinds, authors in (
                (["detection"], 1),
                (["detection", "fuzz"], 1),
                (["detection"], 2),
                (["intruder"], 2),
            )
        ]
    assert count == [20, 40, 40, 10 * ScoreSettings().rounds]


def test_what_an_explanation_was_made_from(asked: AskedRun) -> None:
    one, other = question("a"), question("b")
    with asked.asking() as asking, asked.asking(model="n") as another, asked.asking(api_key="sk-x") as key:
        assert asking.made_from(one) == asking.made_from(question("a")) == key.made_from(one)
        assert len({asking.made_from(one), asking.made_from(other), another.made_from(one)}) == 3
