"""What asking will cost, before anything is asked."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from onesense.errors import BudgetReachedError, ConfigurationError
from onesense.explain.endpoint.chat import ChatRequest, Usage
from onesense.explain.endpoint.prices import PRICE_UNKNOWN, Price

_BYTES_PER_TOKEN = 3
"""English prose has about four; text with marks, quotes and numbers in it between two and three."""

_TOKENS_AROUND = 60
"""What a chat template and a sentence about the form of the answer add to the two messages."""

_TOKENIZERS_DIFFER = 0.25
"""Another model's tokenizer counts this much more or less of the same text."""

_AT_MOST = 1.5
"""No text of ours had more tokens than its estimate times this, with a vocabulary as small as SmolLM2's."""

_SHORTEST_ANSWER = 0.1
"""Of ``max_tokens``: answers are asked to be short, and most are far below the limit."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What questions will take; an estimate, not a promise.

    Attributes:
        requests: Questions.
        prompt_tokens: Tokens in, as estimated.
        prompt_tokens_off_by: How far the true number may be from that, either way.
        completion_tokens: Tokens out at most.
        cost_low: Where prompts are short and answers too; None where the price is not known.
        cost_high: Where prompts are long and every answer takes all that it may.
        price: What tokens cost; None where it is not known.
    """

    requests: int
    prompt_tokens: int
    prompt_tokens_off_by: int
    completion_tokens: int
    cost_low: Decimal | None
    cost_high: Decimal | None
    price: Price | None

    def __str__(self) -> str:
        questions = "1 request" if self.requests == 1 else f"{self.requests:,} requests"
        tokens = (
            f"about {_short(self.prompt_tokens)} tokens in (± {_short(self.prompt_tokens_off_by)}), "
            f"at most {_short(self.completion_tokens)} out"
        )
        if self.price is None or self.cost_low is None or self.cost_high is None:
            return f"{questions}, {tokens}; {PRICE_UNKNOWN}"
        if not self.cost_high:
            return f"{questions}, {tokens}; costs {self.price}"
        return f"{questions}, {tokens}; estimated {money(self.cost_low)} to {money(self.cost_high)} at {self.price}"

    def require_within(self, budget: Decimal | None) -> None:
        """Refuse questions that all go out together, and so cannot be stopped, where they may pass the budget.

        Raises:
            BudgetReachedError: They may cost more.
            ConfigurationError: The price is not known.
        """
        if budget is None:
            return
        if self.cost_high is None:
            raise ConfigurationError(
                f"A budget cannot be kept: {PRICE_UNKNOWN.partition(':')[0]}.",
                hint="Give --price-input and --price-output, in dollars for a million tokens, or leave out --budget.",
            )
        if self.cost_high > budget:
            raise BudgetReachedError(
                f"These {self.requests:,} requests may cost up to {money(self.cost_high)}, more than the "
                f"{money(budget)} that are left of the budget, and a batch cannot be stopped when its money is spent.",
                hint="Raise --budget, ask about fewer features, or ask without --batch.",
            )


def prompt_tokens(request: ChatRequest[Any], count_tokens: Callable[[str], int] | None = None) -> int:
    """Estimate the tokens of a question.

    Without a tokenizer every three bytes of UTF-8 count as a token: English prose has four or more, most scripts
    other than Latin have two or three bytes in a letter and about a token for each. The form of the answer counts
    too: endpoints that take it read it with the question.

    Args:
        request: The question.
        count_tokens: Tokens of a text by a tokenizer at hand, such as that of the model that is explained.
    """
    answer: type[BaseModel] = request.answer
    texts = (request.system, request.user, _form(answer))
    if count_tokens is not None:
        return sum(count_tokens(text) for text in texts) + _TOKENS_AROUND
    size = sum(len(text.encode("utf-8", errors="replace")) for text in texts)
    return -(-size // _BYTES_PER_TOKEN) + _TOKENS_AROUND


def most_prompt_tokens(request: ChatRequest[Any], count_tokens: Callable[[str], int] | None = None) -> int:
    """More tokens than a question should have, whoever counts: half as many again as estimated."""
    return math.ceil(prompt_tokens(request, count_tokens) * _AT_MOST)


def estimate(
    sample: Sequence[ChatRequest[Any]],
    requests: int,
    price: Price | None,
    count_tokens: Callable[[str], int] | None = None,
) -> Estimate:
    """Estimate what questions will cost, from some of them.

    Args:
        sample: Some of the questions, of every kind in its share.
        requests: How many there will be.
        price: What tokens cost; None where it is not known.
        count_tokens: Tokens of a text by a tokenizer at hand.

    Raises:
        ConfigurationError: There are questions to ask and none in the sample.
    """
    if requests <= 0:
        free = None if price is None else Decimal(0)
        return Estimate(0, 0, 0, 0, free, free, price)
    if not sample:
        raise ConfigurationError("What asking costs cannot be estimated without one question to look at.")
    prompts = [prompt_tokens(request, count_tokens) for request in sample]
    mean = statistics.fmean(prompts)
    # two standard errors of the mean, and the tokenizer of the model that is asked is another one
    drawn = 2 * statistics.stdev(prompts) / math.sqrt(len(prompts)) if len(prompts) > 1 else 0.0
    off_by = math.hypot(drawn, _TOKENIZERS_DIFFER * mean) * requests
    tokens_in = mean * requests
    tokens_out = math.ceil(statistics.fmean(request.max_tokens for request in sample) * requests)
    low = Usage(max(0, int(tokens_in - off_by)), 0, int(tokens_out * _SHORTEST_ANSWER))
    high = Usage(math.ceil(tokens_in + off_by), 0, tokens_out)
    return Estimate(
        requests=requests,
        prompt_tokens=math.ceil(tokens_in),
        prompt_tokens_off_by=math.ceil(off_by),
        completion_tokens=tokens_out,
        cost_low=None if price is None else price.cost(low, requests),
        cost_high=None if price is None else price.most(high, requests),
        price=price,
    )


def money(amount: Decimal) -> str:
    """Write a sum in dollars for people: cents where there are some, small sums to two digits."""
    if amount == 0:
        return "$0"
    if amount >= Decimal("0.095"):
        return f"${amount:,.2f}"
    return f"${float(f'{amount:.2g}'):.10f}".rstrip("0")


@lru_cache(maxsize=64)
def _form(answer: type[BaseModel]) -> str:
    return json.dumps(answer.model_json_schema(), separators=(",", ":"))


def _short(count: int) -> str:
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1e3:,.0f} thousand" if count < 1_000_000 else f"{count / 1e6:,.1f} million"
