from __future__ import annotations

from decimal import Decimal

import pytest

from explain.endpoint.questions import question
from onesense.errors import BudgetReachedError, ConfigurationError
from onesense.explain.endpoint.estimate import estimate, money, most_prompt_tokens, prompt_tokens
from onesense.explain.endpoint.prices import Price, price_of
from onesense.model.language_model import LanguageModel

PRICE = Price(Decimal(1), Decimal("0.5"), Decimal(4), source="as given")


def test_without_a_tokenizer_three_bytes_are_a_token() -> None:
    short, long = prompt_tokens(question("")), prompt_tokens(question("a" * 300))
    assert long - short == 100
    assert prompt_tokens(question("看護師" * 10)) - short == 30


def test_a_tokenizer_counts_every_part() -> None:
    words = prompt_tokens(question("one two three", system="four five"), lambda text: len(text.split()))
    assert words >= 5 + 60


def test_half_a_surrogate_pair_is_counted() -> None:
    assert prompt_tokens(question("\ud800")) >= prompt_tokens(question(""))


TEXTS = [
    "The nurse said that she would be back before the doctor had finished his rounds that evening.",
    "Promoted: ' she', ' her', ' hers', ' herself', ' woman', ' Mrs', ' girl', ' daughter', ' queen'",
    "1. (9) She was <<a nurse>> and her <<mother>> had been one too.\n2. (4) “Yes,” <<she>> said.",
    '{"explanation": "female pronouns and titles"}',
    "Sie war Krankenschwester; ihr Bruder fährt täglich mit dem Überlandbus nach Köln.",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_most_is_above_what_a_small_vocabulary_needs(demo_model: LanguageModel, text: str) -> None:
    # SmolLM2 has 49,152 tokens, and models that are asked have two to five times as many: they need fewer
    needed = len(demo_model.tokenizer(text)["input_ids"])
    size = len(text.encode())
    assert size / 2 >= needed >= size / 6
    without, with_text = (most_prompt_tokens(question(user)) for user in ("", text))
    assert with_text - without >= needed - 1


def test_more_questions_cost_more_and_the_true_cost_lies_between() -> None:
    sample = [question("word " * count, max_tokens=100) for count in (100, 150, 200)]
    result = estimate(sample, 1000, PRICE)
    assert result.requests == 1000
    assert result.completion_tokens == 100_000
    assert result.cost_low is not None
    assert result.cost_high is not None
    each = sum(prompt_tokens(request) for request in sample) / 3
    assert result.prompt_tokens == pytest.approx(each * 1000, abs=1)
    assert result.cost_low < Decimal(each * 1000 / 1e6 + 0.25 * 100_000 * 4 / 1e6) < result.cost_high


def test_prompts_of_very_different_length_make_it_wider() -> None:
    alike = estimate([question("word " * 100)] * 4, 100, PRICE)
    mixed = estimate([question("word " * count) for count in (1, 1, 1, 397)], 100, PRICE)
    assert mixed.prompt_tokens_off_by > 2 * alike.prompt_tokens_off_by


def test_the_line_for_people() -> None:
    sample = [question("word " * 200, max_tokens=300)]
    line = str(estimate(sample, 4608, price_of("gpt-4o-mini")))
    assert line.startswith("4,608 requests, about ")
    assert "at most 1.4 million out" in line
    assert "estimated $" in line
    assert "\n" not in line
    assert str(estimate(sample, 1, PRICE)).startswith("1 request, about ")
    assert "costs nothing (a server on this machine)" in str(
        estimate(sample, 5, price_of("m", "http://[::1]"))
    )
    assert str(estimate(sample, 5, None)).endswith(
        "price unknown: tokens are counted, --budget needs --price-input and --price-output"
    )


def test_nothing_to_ask_costs_nothing() -> None:
    assert estimate([], 0, PRICE).cost_high == 0
    with pytest.raises(ConfigurationError, match="cannot be estimated"):
        estimate([], 3, PRICE)


def test_what_cannot_be_stopped_must_fit_into_the_budget() -> None:
    result = estimate([question("word " * 100, max_tokens=100)], 1000, PRICE)
    assert result.cost_high is not None
    result.require_within(None)
    result.require_within(result.cost_high)
    with pytest.raises(BudgetReachedError, match="a batch cannot be stopped"):
        result.require_within(result.cost_high - Decimal("0.01"))
    with pytest.raises(ConfigurationError, match="price unknown"):
        estimate([question()], 1, None).require_within(Decimal(1))


@pytest.mark.parametrize(
    ("value", "text"),
    [("0", "$0"), ("0.000123", "$0.00012"), ("0.05", "$0.05"), ("0.099", "$0.10"), ("1.2", "$1.20"),
     ("12345", "$12,345.00"), ("0.0000000012", "$0.0000000012")],
)  # fmt: skip
def test_sums_for_people(value: str, text: str) -> None:
    assert money(Decimal(value)) == text
