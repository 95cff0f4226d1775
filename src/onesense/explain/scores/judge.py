"""Who says which contexts an explanation fits: a language model, or anything else that can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from onesense.explain.endpoint.chat import ChatReply, Endpoint, Usage
from onesense.explain.passages import marked_text
from onesense.explain.prompts import (
    ConfidenceAnswer,
    IntruderAnswer,
    intruder_request,
    judge_request,
)
from onesense.store.catalog import ExplanationStatus

MOST_CONFIDENT = 10
"""Of the scale that judges use: 10 fits for certain, 0 does not, 5 cannot be told."""


@dataclass(frozen=True, slots=True)
class ShownContext:
    """A context as a judge sees it: nothing in it tells whether the feature fires.

    Attributes:
        token_ids: The tokens.
        pieces: Visible text of each token; see ``Passage.pieces``.
        marks: Which tokens are marked; none at all in detection.
    """

    token_ids: tuple[int, ...]
    pieces: tuple[str, ...]
    marks: tuple[bool, ...]

    @property
    def text(self) -> str:
        """One line, with ``<<`` and ``>>`` around marked tokens."""
        return marked_text(self.pieces, self.marks)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said of some contexts.

    Attributes:
        confidences: For each context 0 to 10, whether it fits; None unless the status is ``ok``.
        status: ``ok``, or why there is no judgement.
        detail: What went wrong, for people.
        usage: Tokens that it took.
    """

    confidences: tuple[float, ...] | None
    status: ExplanationStatus = "ok"
    detail: str = ""
    usage: Usage = field(default_factory=Usage)


class Judge(Protocol):
    """Says how well contexts fit an explanation."""

    async def judge(self, explanation: str, contexts: Sequence[ShownContext]) -> Judgement:
        """Confidence for each context that a feature with this explanation fires there.

        Where tokens are marked, that it fires at the marked tokens and nowhere else.

        Raises:
            EndpointError: Asking on is of no use.
            BudgetReachedError: The next question could cost more than is left.
        """
        ...

    async def find_intruder(self, contexts: Sequence[ShownContext]) -> Judgement:
        """Confidence for each context that it is the one where another feature fires; nothing is explained.

        A judge that cannot tell gives a judgement without confidences.

        Raises:
            EndpointError, BudgetReachedError: See ``judge``.
        """
        ...


class LlmJudge:
    """A language model as judge, one question for all contexts.

    Args:
        endpoint: Whom to ask.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def judge(self, explanation: str, contexts: Sequence[ShownContext]) -> Judgement:
        """See ``Judge``; an answer of another length than was asked for is ``unparseable``."""
        marked = any(any(context.marks) for context in contexts)
        request = judge_request(explanation, [context.text for context in contexts], marked=marked)
        reply: ChatReply[ConfidenceAnswer] = await self._endpoint.ask(request)
        if reply.value is None:
            return Judgement(None, reply.status, reply.detail, reply.usage)
        found = reply.value.confidence
        if len(found) != len(contexts):
            detail = f"{len(found)} numbers came for {len(contexts)} contexts."
            return Judgement(None, "unparseable", detail, reply.usage)
        return Judgement(tuple(float(one) for one in found), usage=reply.usage)

    async def find_intruder(self, contexts: Sequence[ShownContext]) -> Judgement:
        """See ``Judge``; the number of no context is ``unparseable``."""
        request = intruder_request([context.text for context in contexts])
        reply: ChatReply[IntruderAnswer] = await self._endpoint.ask(request)
        if reply.value is None:
            return Judgement(None, reply.status, reply.detail, reply.usage)
        number = reply.value.intruder
        if not 1 <= number <= len(contexts):
            detail = f"There is no context {number}."
            return Judgement(None, "unparseable", detail, reply.usage)
        chosen = (MOST_CONFIDENT if place == number else 0 for place in range(1, len(contexts) + 1))
        return Judgement(tuple(float(one) for one in chosen), usage=reply.usage)
