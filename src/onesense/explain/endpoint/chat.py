"""What is asked of a language model, and what comes back.

A reply that could not be used has a status that says why, and no value: it counts as missing, never as an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from onesense.store.catalog import ExplanationStatus

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, or of many added up.

    Attributes:
        prompt_tokens: Read.
        cached_prompt_tokens: Of these, read from the endpoint's own cache of prompts.
        completion_tokens: Written, those of reasoning included.
    """

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_prompt_tokens + other.cached_prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True)
class ChatRequest(Generic[Answer]):
    """One question.

    Attributes:
        system: What the model is told to do; the same for many questions, so that endpoints can cache it.
        user: What this question is about. Text of a corpus in it is delimited and is no instruction.
        answer: What the answer must look like.
        max_tokens: Most tokens of the answer.
        temperature: Of sampling; 0 is greedy.
    """

    system: str
    user: str
    answer: type[Answer]
    max_tokens: int = 300
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class ChatReply(Generic[Answer]):
    """What came back.

    Attributes:
        status: ``ok``, or why there is no value.
        value: The answer; None unless the status is ``ok``.
        detail: In words what went wrong, without any key; empty where nothing did.
        usage: Tokens, as the endpoint counts them; of a stored reply, those that it took when it was paid.
        paid: Whether the endpoint was asked; False for a stored reply.
        attempts: Times that the endpoint was asked, 0 for a stored reply.
        waited: Seconds waited between attempts.
    """

    status: ExplanationStatus
    value: Answer | None = None
    detail: str = ""
    usage: Usage = field(default_factory=Usage)
    paid: bool = True
    attempts: int = 1
    waited: float = 0.0


class Endpoint(Protocol):
    """Answers questions. Many may be asked at once; the endpoint keeps to its own limit."""

    async def ask(self, request: ChatRequest[Answer]) -> ChatReply[Answer]:
        """Ask one question.

        Raises:
            EndpointError: Asking on is of no use: key refused, quota used up, no such model, nothing there.
            BudgetReachedError: The next question could cost more than is left.
        """
        ...
