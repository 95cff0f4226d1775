from __future__ import annotations

import asyncio
import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain.endpoint.questions import Said, question
from onesense.errors import BudgetReachedError, ConfigurationError
from onesense.explain.endpoint.chat import ChatReply, Usage
from onesense.explain.endpoint.estimate import most_prompt_tokens
from onesense.explain.endpoint.ledger import Ledger
from onesense.explain.endpoint.prices import Price, price_of

PRICE = Price(Decimal("0.15"), Decimal("0.075"), Decimal("0.6"))


def reply(tokens_in: int, tokens_out: int, *, cached: int = 0, paid: bool = True) -> ChatReply[Said]:
    return ChatReply("ok", Said(explanation="x"), usage=Usage(tokens_in, cached, tokens_out), paid=paid)


def test_what_replies_take_is_booked() -> None:
    ledger = Ledger(PRICE)
    for _ in range(3):
        asked = question()
        ledger.before(asked)
        ledger.after(asked, reply(1000, 100, cached=400))
    assert ledger.spending.requests == 3
    assert ledger.spending.usage == Usage(3000, 1200, 300)
    assert ledger.spending.cost == PRICE.cost(Usage(3000, 1200, 300), 3)
    assert str(ledger.spending) == "3,000 tokens in, 300 out, $0.00054"


def test_stored_replies_cost_nothing() -> None:
    ledger = Ledger(PRICE, 0)
    ledger.after(question(), reply(1000, 100, paid=False))
    assert ledger.spending.cost == 0
    assert ledger.spending.requests == 0
    assert ledger.spending.usage == Usage()
    assert str(ledger.spending) == "0 tokens in, 0 out, $0 of $0"


def test_a_budget_of_nothing_asks_nothing_but_what_costs_nothing() -> None:
    with pytest.raises(BudgetReachedError, match=r"budget of \$0 is reached"):
        Ledger(PRICE, 0).before(question())
    Ledger(price_of("m", "http://localhost"), 0).before(question())


@pytest.mark.parametrize("budget", [-1, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(budget: float) -> None:
    with pytest.raises(ConfigurationError, match="--budget"):
        Ledger(PRICE, budget)


def test_a_budget_without_a_price_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="--price-input and --price-output"):
        Ledger(None, 1)


def test_without_a_price_tokens_are_counted() -> None:
    ledger = Ledger(None)
    asked = question()
    ledger.before(asked)
    ledger.after(asked, reply(10, 5))
    assert ledger.spending.cost is None
    assert str(ledger.spending) == "10 tokens in, 5 out, price unknown"


def test_an_answer_without_a_count_is_booked_at_the_most_it_can_have_cost() -> None:
    ledger = Ledger(PRICE, 1)
    asked = question(max_tokens=70)
    ledger.before(asked)
    ledger.after(asked, ChatReply("unparseable"))
    assert ledger.spending.usage == Usage(most_prompt_tokens(asked), 0, 70)
    assert ledger.spending.uncounted == 1
    ledger.before(asked)
    ledger.after(asked, ChatReply("http_error"))
    assert ledger.spending.usage.completion_tokens == 70
    assert ledger.spending.uncounted == 2


def test_answers_may_be_longer_than_the_question_says() -> None:
    asked = question(max_tokens=1)
    budget = PRICE.most(Usage(most_prompt_tokens(asked), 0, 999))
    Ledger(PRICE, budget).before(asked)
    with pytest.raises(BudgetReachedError):
        Ledger(PRICE, budget, max_tokens=1000).before(asked)


def test_the_message_says_what_is_spent_and_how_to_go_on() -> None:
    ledger = Ledger(PRICE, 0.001)
    asked = question()
    ledger.before(asked)
    ledger.after(asked, reply(6000, 100))
    with pytest.raises(BudgetReachedError) as caught:
        ledger.before(question())
    assert "$0.00096 is spent" in caught.value.message
    assert "Raise --budget" in (caught.value.hint or "")


def test_what_is_in_flight_is_set_aside_until_it_is_broken_off() -> None:
    first, second = question(max_tokens=1000), question(max_tokens=1000)
    ledger = Ledger(PRICE, PRICE.most(Usage(most_prompt_tokens(first), 0, 1000)))
    ledger.before(first)
    with pytest.raises(BudgetReachedError, match="questions in flight: 1"):
        ledger.before(second)
    ledger.after(first, ChatReply("http_error", detail="the question was broken off"))
    ledger.before(second)


@given(
    budget=st.decimals(min_value=0, max_value=Decimal("0.01"), places=6),
    questions=st.lists(
        st.tuples(st.integers(0, 600), st.integers(1, 500), st.floats(0, 1), st.floats(0, 1)), max_size=40
    ),
    at_once=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_never_more_is_spent_than_the_budget(
    budget: Decimal, questions: list[tuple[int, int, float, float]], at_once: int, seed: int
) -> None:
    """Whatever is asked at once, and in whatever order answers come, while no prompt is longer than estimated."""
    ledger, order = Ledger(PRICE, budget), random.Random(seed)
    highest = Decimal(0)

    async def ask(limit: asyncio.Semaphore, size: int, most: int, read: float, written: float) -> None:
        nonlocal highest
        asked = question("x" * size, max_tokens=most)
        async with limit:
            ledger.before(asked)
            for _ in range(order.randint(0, 3)):
                await asyncio.sleep(0)
            tokens_in = int(most_prompt_tokens(asked) * read)
            ledger.after(asked, reply(max(1, tokens_in), int(most * written), cached=tokens_in // 3))
            highest = max(highest, ledger.spending.cost or Decimal(0))

    async def run() -> list[BaseException | None]:
        limit = asyncio.Semaphore(at_once)
        asking = (ask(limit, *one) for one in questions)
        return await asyncio.gather(*asking, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert all(outcome is None or isinstance(outcome, BudgetReachedError) for outcome in outcomes)
    assert highest <= budget
    assert ledger.spending.requests == sum(outcome is None for outcome in outcomes)


def test_prompts_that_are_longer_than_estimated_overshoot_by_no_more_than_those_in_flight() -> None:
    """What happens where the estimate is no upper bound: the first replies set it right."""
    really = 5 * most_prompt_tokens(question("x" * 300, max_tokens=10))
    each = PRICE.cost(Usage(really, 0, 10))
    at_once, budget = 4, each * 20

    async def run() -> Ledger:
        ledger, limit = Ledger(PRICE, budget), asyncio.Semaphore(at_once)

        async def ask() -> None:
            asked = question("x" * 300, max_tokens=10)
            async with limit:
                ledger.before(asked)
                await asyncio.sleep(0)
                ledger.after(asked, reply(really, 10))

        await asyncio.gather(*(ask() for _ in range(100)), return_exceptions=True)
        return ledger

    spent = asyncio.run(run()).spending.cost
    assert spent is not None
    assert budget - each * at_once <= spent <= budget + each * at_once
