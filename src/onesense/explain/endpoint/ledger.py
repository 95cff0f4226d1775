"""What is spent, and what may still be spent.

Before a question is asked, the most that it can cost is set aside; when its answer is there, what it did cost is
booked instead. So what is spent never passes the budget while endpoints keep to ``max_tokens`` and no prompt has more
tokens than it was taken for. Where a prompt has more, each question in flight may cost more than was set aside for
it, once: the questions after it are measured by what it took.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any

from onesense.errors import BudgetReachedError, ConfigurationError
from onesense.explain.endpoint.chat import ChatReply, ChatRequest, Usage
from onesense.explain.endpoint.estimate import money, most_prompt_tokens
from onesense.explain.endpoint.prices import PRICE_UNKNOWN, Price, amount

_NO_LIMIT = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class Spending:
    """What was paid for so far.

    Attributes:
        requests: Questions that the endpoint was asked.
        usage: Tokens of those asked.
        cost: What they cost; None where the price is not known.
        budget: What may be spent; None where there is no limit.
        uncounted: Replies with which the endpoint did not say how many tokens they took. An answer among them is
            booked at the most that it can have cost, a question that was not answered at nothing.
    """

    requests: int
    usage: Usage
    cost: Decimal | None
    budget: Decimal | None
    uncounted: int

    def __str__(self) -> str:
        text = f"{self.usage.prompt_tokens:,} tokens in, {self.usage.completion_tokens:,} out"
        if self.cost is None:
            return f"{text}, {PRICE_UNKNOWN.partition(':')[0]}"
        spent = f"{text}, {money(self.cost)}"
        return spent if self.budget is None else f"{spent} of {money(self.budget)}"


@dataclass(frozen=True, slots=True)
class _SetAside:
    """The most that a question in flight can take; ``estimated`` is its prompt before any correction."""

    usage: Usage
    estimated: int


class Ledger:
    """Books what questions cost. Many may be asked at once, from one event loop.

    Args:
        price: What tokens cost; None where it is not known.
        budget: What may be spent, in the price's currency; None is no limit. With 0 only stored replies are used,
            and those of endpoints that cost nothing.
        count_tokens: Tokens of a text, where the model's tokenizer is at hand; see
            :func:`onesense.explain.endpoint.estimate.prompt_tokens` for what is taken otherwise.
        max_tokens: Most tokens of an answer, where questions are sent with that in place of their own.

    Raises:
        ConfigurationError: A budget without a price, or one that is negative or not a number.

    Attributes:
        price: What tokens cost from now on; what was booked before keeps the price that it had.
        budget: As given.
    """

    def __init__(
        self,
        price: Price | None,
        budget: float | Decimal | None = None,
        count_tokens: Callable[[str], int] | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.price = price
        self.budget = None if budget is None else amount(budget, "--budget")
        if self.budget is not None and price is None:
            raise ConfigurationError(
                f"A budget cannot be kept: {PRICE_UNKNOWN.partition(':')[0]}.",
                hint="Give --price-input and --price-output, in dollars for a million tokens, or leave out --budget.",
            )
        self._count_tokens = count_tokens
        self._max_tokens = max_tokens
        self._usage = Usage()
        self._cost = Decimal(0)
        self._requests = self._uncounted = 0
        self._in_flight: dict[int, _SetAside] = {}
        self._underestimated = 1.0

    @property
    def spending(self) -> Spending:
        """What was paid for until now."""
        cost = None if self.price is None else self._cost
        return Spending(self._requests, self._usage, cost, self.budget, self._uncounted)

    def before(self, request: ChatRequest[Any]) -> None:
        """Set aside the most that a question can cost; call it when no stored reply was found, right before asking.

        Raises:
            BudgetReachedError: That is more than is left.
        """
        aside = self._aside(request)
        if self._cost_with(aside, in_flight=True) > self._limit:
            raise self._reached(aside)
        self._in_flight[id(request)] = aside

    def after(self, request: ChatRequest[Any], reply: ChatReply[Any]) -> None:
        """Book what a reply did cost, in place of what was set aside; call it also where a question was broken off.

        Args:
            request: The very object that :meth:`before` was called with.
            reply: What came back. A stored one costs nothing.
        """
        self._book(reply, self._in_flight.pop(id(request), None))

    def book(self, reply: ChatReply[Any]) -> None:
        """Book a reply for which nothing was set aside, such as one that comes out of a queue."""
        self._book(reply, None)

    def _book(self, reply: ChatReply[Any], aside: _SetAside | None) -> None:
        if not reply.paid:
            return
        self._requests += 1
        usage = reply.usage
        if usage == Usage():
            self._uncounted += 1
            # an endpoint that answers and does not count is not one that costs nothing
            answered = reply.status != "http_error"
            usage = aside.usage if aside is not None and answered else Usage()
        elif aside is not None and aside.estimated:
            self._underestimated = max(self._underestimated, usage.prompt_tokens / aside.estimated)
        self._usage = self._usage + usage
        if self.price is not None:
            self._cost += self.price.cost(usage)

    @property
    def _limit(self) -> Decimal:
        return _NO_LIMIT if self.budget is None else self.budget

    def _aside(self, request: ChatRequest[Any]) -> _SetAside:
        estimated = most_prompt_tokens(request, self._count_tokens)
        written = request.max_tokens if self._max_tokens is None else self._max_tokens
        return _SetAside(Usage(ceil(estimated * self._underestimated), 0, written), estimated)

    def _cost_with(self, aside: _SetAside, *, in_flight: bool) -> Decimal:
        """What is spent, and the most that a question and those in flight can add."""
        if self.price is None:
            return Decimal(0)
        open_questions = [aside, *(self._in_flight.values() if in_flight else ())]
        most = sum((question.usage for question in open_questions), Usage())
        return self._cost + self.price.most(most, len(open_questions))

    def _reached(self, aside: _SetAside) -> BudgetReachedError:
        spent = self.spending.cost or Decimal(0)
        next_one = self._cost_with(aside, in_flight=False) - spent
        waiting = f" (questions in flight: {len(self._in_flight)})" if self._in_flight else ""
        return BudgetReachedError(
            f"The budget of {money(self._limit)} is reached: {money(spent)} is spent{waiting}, and the next question "
            f"can cost up to {money(next_one)}.",
            hint="Everything until here is kept. Raise --budget to go on where this stopped.",
        )
