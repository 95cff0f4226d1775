from __future__ import annotations

import socket
from decimal import Decimal

import pytest

from onesense.errors import ConfigurationError
from onesense.explain.endpoint.chat import Usage
from onesense.explain.endpoint.prices import Price, amount, is_loopback, price_of


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a price was asked of the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_listed_model_has_a_price_and_says_where_it_is_from() -> None:
    price = price_of("gpt-4o-mini")
    assert price is not None
    assert (price.input, price.cached_input, price.output) == (
        Decimal("0.15"),
        Decimal("0.075"),
        Decimal("0.6"),
    )
    assert price.currency == "USD"
    assert price.source.startswith("genai-prices ")
    assert "openai, gpt-4o-mini" in str(price)
    assert "$0.15 in, $0.6 out per million tokens" in str(price)


def test_the_provider_is_told_by_the_address() -> None:
    assert price_of("openai/gpt-4o-mini", "https://openrouter.ai/api/v1") is not None
    assert price_of("gpt-4o-mini", "https://models.example.org/v1") is None
    assert price_of("no-such-model") is None
    assert price_of("", None) is None


def test_the_batch_queue_of_openai_is_half_the_price() -> None:
    full, half = price_of("gpt-4o-mini"), price_of("gpt-4o-mini", batch=True)
    assert full is not None
    assert half is not None
    assert (half.input * 2, half.output * 2) == (full.input, full.output)
    assert "in the batch queue" in half.source


def test_without_a_listed_queue_the_full_price_counts_and_this_is_said() -> None:
    url = "https://openrouter.ai/api/v1"
    full, queued = price_of("openai/gpt-4o-mini", url), price_of("openai/gpt-4o-mini", url, batch=True)
    assert full is not None
    assert queued is not None
    assert (queued.input, queued.output) == (full.input, full.output)
    assert "no price of a batch queue known" in queued.source


def test_a_price_that_depends_on_the_hour_is_the_dearest() -> None:
    price = price_of("deepseek-chat", "https://api.deepseek.com")
    assert price is not None
    assert price.input == Decimal("0.27")  # half of that outside the day in China


def test_a_price_of_each_request_is_counted() -> None:
    price = price_of("sonar", "https://api.perplexity.ai")
    assert price is not None
    assert price.request > 0
    assert price.cost(Usage(), requests=3) == 3 * price.request


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://LOCALHOST/v1",
        "http://127.0.0.1:11434/v1",
        "http://127.9.9.9/v1",
        "http://[::1]:8080",
        "http://a.localhost./v1",
    ],
)
def test_a_server_on_this_machine_costs_nothing_and_says_so(url: str) -> None:
    assert is_loopback(url)
    price = price_of("anything", url)
    assert price is not None
    assert price.cost(Usage(10**9, 0, 10**9), 10**6) == 0
    assert str(price) == "nothing (a server on this machine)"


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost.example.org",
        "http://127.0.0.1.example.org",
        "http://10.0.0.1",
        "http://[bad",
        "",
        "://",
    ],
)
def test_another_machine_is_not_this_one(url: str) -> None:
    assert not is_loopback(url)


def test_prices_of_the_user_win_also_on_this_machine_and_in_the_queue() -> None:
    for url in (None, "http://localhost:4000"):
        price = price_of("gpt-4o-mini", url, price_input=1.5, price_output=6, batch=True)
        assert price == Price(Decimal("1.5"), Decimal("1.5"), Decimal(6), source="as given")
    cached = price_of("x", price_input=1, price_output=2, price_cached_input=0.25)
    assert cached is not None
    assert cached.cached_input == Decimal("0.25")


@pytest.mark.parametrize(
    "prices",
    [
        {"price_input": 1.0},
        {"price_output": 1.0},
        {"price_cached_input": 1.0},
        {"price_input": -1.0, "price_output": 1.0},
        {"price_input": 1.0, "price_output": float("nan")},
        {"price_input": float("inf"), "price_output": 1.0},
    ],
)
def test_prices_that_are_no_prices_are_refused(prices: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="--price"):
        price_of("gpt-4o-mini", **prices)  # type: ignore[arg-type]


def test_cached_tokens_cost_less_and_never_more_of_them_count_than_were_read() -> None:
    price = Price(Decimal(2), Decimal(1), Decimal(10))
    assert price.cost(Usage(1_000_000, 400_000, 100_000)) == Decimal("1.2") + Decimal("0.4") + 1
    assert price.cost(Usage(10, 1000, 0)) == Decimal(10) / 1_000_000
    assert price.most(Usage(1_000_000, 400_000, 0)) == 2


def test_a_sum_is_read_as_it_was_written() -> None:
    assert amount(0.1, "--budget") == Decimal("0.1")
