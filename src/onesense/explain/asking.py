"""Ask a language model about many features: who is asked, what it costs, and where the answers go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import SecretStr

from onesense.errors import ConfigurationError
from onesense.explain.endpoint.cache import ReplyCache, question_key
from onesense.explain.endpoint.chat import ChatRequest
from onesense.explain.endpoint.client import OpenAIEndpoint
from onesense.explain.endpoint.estimate import Estimate, estimate
from onesense.explain.endpoint.exchange import Exchange
from onesense.explain.endpoint.ledger import Ledger
from onesense.explain.endpoint.prices import Price, price_of
from onesense.explain.endpoint.settings import OPENAI_URL, EndpointSettings, is_loopback
from onesense.explain.evidence import EvidenceReader, FeatureEvidence
from onesense.explain.interpret import Explainer, Progress, Questions, explain_features
from onesense.explain.negatives import Negatives
from onesense.explain.passages import marked_text
from onesense.explain.prompts import intruder_request, judge_request
from onesense.explain.scores.judge import LlmJudge
from onesense.explain.scores.score import ScoreKind, ScoreSettings
from onesense.explain.scores.summary import ScoreSummary
from onesense.explain.scores.trials import INTRUDER_CONTEXTS
from onesense.explain.scoring import Scored, score_explanations
from onesense.store.catalog import Catalog

Result = TypeVar("Result")

DEFAULT_MODEL = "gpt-4o"
"""Of OpenAI; the original project asked it."""

_SECONDS, _LOCAL_SECONDS = 120.0, 600.0
_SAMPLED = 32
_EXPLANATION_LENGTH = 120
_NOTHING = FeatureEvidence(0)
_MODELS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Prices:
    """What the user says tokens cost, and what may be spent.

    Attributes:
        budget: Dollars at most; None is no limit.
        price_input: Dollars for a million tokens in; None where the list is to be asked.
        price_output: The same for tokens out.
        batch: Whether explanations wait in the provider's cheaper queue.
    """

    budget: float | None = None
    price_input: float | None = None
    price_output: float | None = None
    batch: bool = False


class Asking:
    """A language model, its ledger and its stored replies; use it as a context manager.

    Args:
        settings: Where the model is.
        prices: What may be spent.
        count_tokens: Tokens of a text, by a tokenizer at hand; None where there is none.

    Attributes:
        settings: As given.
        ledger: What was spent.
    """

    def __init__(
        self, settings: EndpointSettings, prices: Prices, count_tokens: Callable[[str], int] | None
    ) -> None:
        self.settings = settings
        self._count_tokens = count_tokens
        price = partial(
            price_of,
            settings.model,
            settings.base_url,
            price_input=prices.price_input,
            price_output=prices.price_output,
        )
        # Only explanations wait in the queue: judgements are asked for at once, at the full price.
        self._price, self._full_price = price(batch=prices.batch), price()
        self.ledger = Ledger(self._price, prices.budget, count_tokens, settings.max_tokens)
        self.cache = ReplyCache(settings.cache)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cache.close()

    def made_from(self, request: ChatRequest[Any]) -> str:
        """Digest of a question and of how it is asked."""
        return question_key(request, self.settings).hex()[:32]

    def estimate(self, questions: Questions) -> Estimate:
        """What the questions that are open will cost, as far as the first of them tell.

        Args:
            questions: The questions.
        """
        sample = [request for _, request in islice(questions.requests(), _SAMPLED)]
        # Behind the sample every question may be open.
        open_ones = questions.total() - questions.done if len(sample) == _SAMPLED else len(sample)
        return self._estimated(sample, open_ones, self._price)

    def estimate_scores(
        self, evidence: Iterable[FeatureEvidence], features: int, kinds: Sequence[ScoreKind], *, authors: int
    ) -> Estimate:
        """What scoring will cost, as far as the contexts of some features tell.

        Args:
            evidence: Of some features.
            features: How many will be scored.
            kinds: Which scores.
            authors: Whose explanations are judged: the language model's, and perhaps the word sets'.
        """
        sample = [request for one in evidence for request in _judge_requests(one, kinds, authors)]
        each = len(_judge_requests(_NOTHING, kinds, authors))
        return self._estimated(sample, features * each, self._full_price)

    def _estimated(self, sample: Sequence[ChatRequest[Any]], requests: int, price: Price | None) -> Estimate:
        most = self.settings.max_tokens
        if most is not None:  # sent in place of each question's own
            sample = [replace(request, max_tokens=most) for request in sample]
        return estimate(sample, requests, price, self._count_tokens)

    def explain(self, questions: Questions, catalog: Catalog, progress: Progress, total: int | None) -> int:
        """Ask every open question; see ``explain_features``."""

        async def asked(explainer: Explainer) -> int:
            return await explain_features(questions, explainer, catalog, progress, total=total)

        return self.with_endpoint(asked)

    def score(
        self,
        explanations: Mapping[int, str],
        method: str,
        kinds: Sequence[ScoreKind],
        reader: EvidenceReader,
        negatives: Negatives,
        catalog: Catalog,
        progress: Progress,
    ) -> list[ScoreSummary]:
        """Have the language model judge explanations; see ``score_explanations``.

        Args:
            explanations: Texts by feature; empty where there is none.
            method: Who wrote them: ``llm`` is this language model.
            kinds: Which scores.
            reader: Evidence of features.
            negatives: Where features do not fire.
            catalog: Where scores go.
            progress: Told about features scored.
        """
        model = self.settings.model
        self.ledger.price = self._full_price

        async def judged(explainer: Explainer) -> list[ScoreSummary]:
            judge = LlmJudge(explainer.endpoint)
            author = model if method == "llm" else ""
            scored = Scored(explanations, method, author, judge, model, explainer.concurrency)
            return await score_explanations(
                scored, kinds, reader, negatives, catalog, progress, seed=reader.seed
            )

        return self.with_endpoint(judged)

    def with_endpoint(self, work: Callable[[Explainer], Coroutine[Any, Any, Result]]) -> Result:
        """Do some work with the endpoint open."""

        async def opened() -> Result:
            async with OpenAIEndpoint(
                self.settings, self.cache, before=self.ledger.before, after=self.ledger.after
            ) as endpoint:
                return await work(Explainer(endpoint, self.settings.model, self.settings.concurrency))

        return asyncio.run(opened())


def endpoint_settings(
    base_url: str | None,
    model: str | None,
    key: SecretStr | None,
    *,
    timeout: float | None = None,
    **others: Any,
) -> EndpointSettings:
    """Settings of an endpoint; where no model is named, the default one, or the only one that the server has.

    Args:
        base_url: Its address; None is OpenAI's.
        model: Name of the model there.
        key: Key.
        timeout: Seconds for one attempt; None for what suits: a server on this machine may answer one question
            after the other, and says nothing before it has the whole answer.
        others: Further fields of ``EndpointSettings``; those that are None are left out.

    Raises:
        ConfigurationError: Which model is open, or a value cannot be used.
    """
    url = base_url or OPENAI_URL
    seconds = timeout or (_LOCAL_SECONDS if is_loopback(url) else _SECONDS)
    given = {name: value for name, value in others.items() if value is not None}
    given |= {"read_timeout": seconds, "attempt_timeout": seconds}
    settings = EndpointSettings(base_url=url, model=model or DEFAULT_MODEL, api_key=key, **given)
    if model is not None or url.rstrip("/") == OPENAI_URL:
        return settings
    names = asyncio.run(_models(settings))
    if len(names) != 1:
        listed = ", ".join(names[:_MODELS_SHOWN]) or "none that it would list"
        raise ConfigurationError(f"Which model of {url}? It has: {listed}.", hint="Name one with --model.")
    return EndpointSettings(base_url=url, model=names[0], api_key=key, **given)


def _judge_requests(
    evidence: FeatureEvidence, kinds: Sequence[ScoreKind], authors: int
) -> list[ChatRequest[Any]]:
    """Questions of scoring a feature, with its own contexts in place of those where it does not fire."""
    settings = ScoreSettings()
    texts = [
        marked_text(passage.pieces, passage.marks()) for passage in evidence.test[: settings.contexts]
    ] * 2
    judged = [kind for kind in kinds if kind != "intruder"]
    requests: list[ChatRequest[Any]] = [
        judge_request("x" * _EXPLANATION_LENGTH, texts, marked=kind == "fuzz")
        for kind in judged
        for _ in range(2 * authors)  # each beside the explanation of another feature
    ]
    if "intruder" in kinds:
        requests += [intruder_request(texts[:INTRUDER_CONTEXTS])] * settings.rounds
    return requests


async def _models(settings: EndpointSettings) -> list[str]:
    exchange = Exchange(settings)
    try:
        return await exchange.models()
    finally:
        await exchange.close()
