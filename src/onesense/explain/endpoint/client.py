"""Ask a language model behind an OpenAI-compatible address, and bear with all that it does."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

import httpx2

from onesense.errors import EndpointError
from onesense.explain.endpoint.answers import clean_text
from onesense.explain.endpoint.cache import ReplyCache, question_key
from onesense.explain.endpoint.chat import Answer, ChatReply, ChatRequest
from onesense.explain.endpoint.completion import RawReply, reply_from
from onesense.explain.endpoint.dialect import Dialect, completion_body
from onesense.explain.endpoint.exchange import Exchange
from onesense.explain.endpoint.faults import Failed, Fatal, Fault, Retry
from onesense.explain.endpoint.secrecy import key_kept_from_logs, scrub
from onesense.explain.endpoint.settings import EndpointSettings
from onesense.explain.endpoint.totals import Totals
from onesense.explain.endpoint.waiting import Pace, backoff

logger = logging.getLogger(__name__)

FIRST_ATTEMPTS = 3
"""Attempts without a server, or without a completion, after which an address that never worked counts as wrong."""

_MODELS_SHOWN = 10

Before = Callable[[ChatRequest[Any]], None]
After = Callable[[ChatRequest[Any], ChatReply[Any]], None]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the endpoint did with a question."""

    result: RawReply | Failed
    attempts: int
    waited: float


class OpenAIEndpoint:
    """An endpoint, used as ``async with OpenAIEndpoint(settings, cache) as endpoint``.

    Args:
        settings: Where it is and how it is asked.
        cache: Paid replies; without it every question is paid for.
        before: Called before a question is sent that no stored reply answers; may raise BudgetReachedError.
        after: Called with the question and its reply for each question that ``before`` let pass, also where
            nothing came of it.
        pace: Time and chance.
        transport: Takes the place of the network.

    Attributes:
        settings: As given.
        totals: What was asked so far.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        cache: ReplyCache | None = None,
        *,
        before: Before | None = None,
        after: After | None = None,
        pace: Pace | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = settings
        self.totals = Totals()
        self._cache = cache
        self._before, self._after = before, after
        self._pace = pace or Pace()
        self._transport = transport
        self._dialect = Dialect(structured=settings.structured)
        self._places = asyncio.Semaphore(settings.concurrency)
        self._in_flight: dict[bytes, asyncio.Future[_Outcome]] = {}
        self._exchange: Exchange | None = None
        self._closing = ExitStack()
        self._fatal: tuple[str, str] | None = None
        self._reached = self._completed = False
        self._failures_in_row = 0

    async def __aenter__(self) -> Self:
        self._closing.enter_context(key_kept_from_logs(self.settings.key))
        self._exchange = Exchange(self.settings, transport=self._transport)
        return self

    async def __aexit__(self, *exception: object) -> None:
        exchange, self._exchange = self._exchange, None
        try:
            if exchange is not None:
                await exchange.close()
        finally:
            self._closing.close()

    async def ask(self, request: ChatRequest[Answer]) -> ChatReply[Answer]:
        """Ask one question; a stored reply is read again instead.

        The same question asked twice at once is sent once.

        Raises:
            EndpointError: Asking on is of no use: key refused, quota used up, no such model, nothing there.
            BudgetReachedError: From ``before``.
            StorageError: The reply could not be kept.
        """
        question = question_key(request, self.settings)
        while True:
            stored = None if self._cache is None else self._cache.get(question)
            if stored is not None:
                return self._booked(self._stored(stored, request))
            running = self._in_flight.get(question)
            if running is None:
                return self._booked(await self._asked_first(question, request))
            await asyncio.wait([running])
            if not running.cancelled():
                return self._booked(self._stored(running.result().result, request))

    def _booked(self, reply: ChatReply[Answer]) -> ChatReply[Answer]:
        self.totals.book(reply)
        return reply

    def _stored(self, result: RawReply | Failed, request: ChatRequest[Answer]) -> ChatReply[Answer]:
        return replace(self._reply(result, request), paid=False, attempts=0, waited=0.0)

    def _reply(self, result: RawReply | Failed, request: ChatRequest[Answer]) -> ChatReply[Answer]:
        if isinstance(result, Failed):
            return ChatReply(result.status, detail=self._clean(result.detail))
        return reply_from(result, request.answer, key=self.settings.key)

    async def _asked_first(self, question: bytes, request: ChatRequest[Answer]) -> ChatReply[Answer]:
        """Send a question that nobody else is sending; who asks the same meanwhile gets the outcome."""
        future: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        self._in_flight[question] = future
        try:
            async with self._places:
                outcome, reply = await self._paid(question, request)
            future.set_result(outcome)
            return reply
        finally:
            del self._in_flight[question]
            future.cancel()  # nothing happens to one that has its result

    async def _paid(
        self, question: bytes, request: ChatRequest[Answer]
    ) -> tuple[_Outcome, ChatReply[Answer]]:
        self._stop_if_fatal()
        if self._before is not None:
            self._before(request)
        reply: ChatReply[Answer] = ChatReply("http_error", detail="the question was broken off")
        try:
            outcome = await self._outcome(request)
            reply = replace(
                self._reply(outcome.result, request), attempts=outcome.attempts, waited=outcome.waited
            )
            if isinstance(outcome.result, RawReply) and self._cache is not None:
                self._cache.put(question, outcome.result, model=self.settings.model)
        finally:
            if self._after is not None:
                self._after(request, reply)
        return outcome, reply

    async def _outcome(self, request: ChatRequest[Answer]) -> _Outcome:
        """Ask until there is a reply, no hope for this question, or no hope at all."""
        attempts, waited = 0, 0.0
        while True:
            self._stop_if_fatal()
            dialect = self._dialect
            result = await self._sent(request, dialect)
            if isinstance(result, RawReply):
                self._failures_in_row = 0
                return _Outcome(result.without_key(self.settings.key), attempts + 1, waited)
            if self._speaks_otherwise(result, dialect):
                continue
            attempts += 1
            if isinstance(result, Fatal):
                raise await self._given_up(result)
            if isinstance(result, Failed):
                return self._failed(result, attempts, waited)
            self._stop_if_never_there(result, attempts)
            delay = self._delay(result, attempts, waited)
            if delay is None:
                detail = f"{result.reason}; given up after {attempts} attempts"
                return self._failed(Failed("http_error", detail), attempts, waited)
            logger.info("Asked again in %.1f s: %s", delay, self._clean(result.reason))
            await self._pace.sleep(delay)
            waited += delay

    async def _sent(self, request: ChatRequest[Answer], dialect: Dialect) -> RawReply | Fault:
        if self._exchange is None:
            raise RuntimeError("an endpoint is asked inside `async with`")
        self.totals.attempts += 1
        body = completion_body(request, self.settings, dialect)
        result = await self._exchange.complete(body, now=self._pace.now())
        lacks = result.lacks if isinstance(result, Retry) else ""
        self._reached = self._reached or lacks != "connection"
        self._completed = self._completed or isinstance(result, RawReply)
        return result

    def _speaks_otherwise(self, fault: Fault, dialect: Dialect) -> bool:
        """Whether the endpoint refused a parameter, and the question should go out again without it."""
        complaint = "" if isinstance(fault, Fatal) else fault.complaint
        poorer = dialect.without(complaint) if complaint else None
        if poorer is None:
            return False
        if self._dialect == dialect:  # otherwise another question has found it out meanwhile
            self._dialect = poorer
        return True

    def _delay(self, fault: Retry, attempts: int, waited: float) -> float | None:
        """Seconds until the next attempt, or None where there is none."""
        left = self.settings.most_wait - waited
        asked_for = fault.after or 0.0
        if attempts >= self.settings.most_attempts or left <= 0 or asked_for > left:
            return None
        return min(left, max(asked_for, backoff(attempts, self._pace.random)))

    def _failed(self, result: Failed, attempts: int, waited: float) -> _Outcome:
        """Count a question that has no reply; many one after the other mean that the endpoint is gone."""
        if not result.of_question:
            self._failures_in_row += 1
        if self._failures_in_row >= self.settings.most_failures_in_row:
            self._set_fatal(
                f"{self._failures_in_row} questions one after the other failed; the last: {result.detail}",
                "What was answered until then is kept; run the same command again later.",
            )
        return _Outcome(result, attempts, waited)

    def _stop_if_never_there(self, fault: Retry, attempts: int) -> None:
        """An address that has never worked is more likely wrong than out of order."""
        if attempts < min(FIRST_ATTEMPTS, self.settings.most_attempts):
            return
        if fault.lacks == "connection" and not self._reached:
            self._set_fatal(
                f"nothing answers there: {fault.reason}", "Is the server running, and the address right?"
            )
        if fault.lacks == "completion" and not self._completed:
            hint = "Is it the address of an OpenAI-compatible interface? Most end in /v1."
            self._set_fatal(f"what answers there is no language model: {fault.reason}", hint)
        self._stop_if_fatal()

    async def _given_up(self, fault: Fatal) -> EndpointError:
        hint = fault.hint
        if fault.unknown_model and self._exchange is not None:
            hint = self._about_models(await self._exchange.models())
        return self._set_fatal(fault.message, hint)

    def _about_models(self, listed: list[str]) -> str:
        model = self.settings.model
        names = [clean_text(name, 100) for name in listed]
        if not names:
            return f"Check the model ({model}), and that the address ends as the server wants it, usually in /v1."
        if model in names:
            return f"The server has {model}: check the path of the address."
        near = difflib.get_close_matches(model, names, n=1, cutoff=0.5)
        guess = f"Did you mean {near[0]}? " if near else ""
        more = f" and {len(names) - _MODELS_SHOWN} more" if len(names) > _MODELS_SHOWN else ""
        return f"{guess}It has: {', '.join(names[:_MODELS_SHOWN])}{more}."

    def _set_fatal(self, message: str, hint: str) -> EndpointError:
        """Stop all questions for the first reason that there is."""
        if self._fatal is None:
            where = f"The endpoint {self.settings.base_url} (model {self.settings.model}) cannot be used"
            self._fatal = (self._clean(f"{where}: {message}."), self._clean(hint))
        return EndpointError(self._fatal[0], hint=self._fatal[1] or None)

    def _stop_if_fatal(self) -> None:
        if self._fatal is not None:
            raise EndpointError(self._fatal[0], hint=self._fatal[1] or None)

    def _clean(self, text: str) -> str:
        return scrub(text, self.settings.key)
