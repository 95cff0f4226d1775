"""What tokens cost.

The list of prices is the one that the package ``genai-prices`` carries; nothing is fetched. Prices of the user come
before it. Money is decimal, so that adding up a hundred thousand replies loses nothing.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from onesense.errors import ConfigurationError
from onesense.explain.endpoint.chat import Usage
from onesense.explain.endpoint.settings import OPENAI_URL, is_loopback

if TYPE_CHECKING:
    from genai_prices import Usage as ListedUsage
    from genai_prices.types import ModelInfo

PRICE_UNKNOWN = "price unknown: tokens are counted, --budget needs --price-input and --price-output"
ON_THIS_MACHINE = "a server on this machine"

_MILLION = Decimal(1_000_000)
_SAMPLE_TOKENS = 1000
"""Below every threshold from which a provider asks more for a token."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost.

    Attributes:
        input: Of tokens that are read.
        cached_input: Of tokens that the endpoint has in its own cache of prompts.
        output: Of tokens that are written, those of reasoning included.
        request: What one request costs beside its tokens; 0 with most providers.
        currency: Of all of these.
        source: Where the price is from, for people.
    """

    input: Decimal
    cached_input: Decimal
    output: Decimal
    request: Decimal = Decimal(0)
    currency: str = "USD"
    source: str = ""

    def cost(self, usage: Usage, requests: int = 1) -> Decimal:
        """What a reply, or many of them, costs.

        Args:
            usage: Its tokens.
            requests: How many replies these are of.
        """
        cached = min(usage.cached_prompt_tokens, usage.prompt_tokens)
        tokens = (
            (usage.prompt_tokens - cached) * self.input
            + cached * self.cached_input
            + usage.completion_tokens * self.output
        )
        return tokens / _MILLION + requests * self.request

    def most(self, usage: Usage, requests: int = 1) -> Decimal:
        """What these tokens cost where none of them is in the endpoint's cache, or cached ones cost more."""
        dearest = max(self.input, self.cached_input)
        tokens = usage.prompt_tokens * dearest + usage.completion_tokens * self.output
        return tokens / _MILLION + requests * self.request

    def __str__(self) -> str:
        if not (self.input or self.output or self.request):
            return f"nothing ({self.source})"
        sign = "$" if self.currency == "USD" else f"{self.currency} "
        text = f"{sign}{_plain(self.input)} in, {sign}{_plain(self.output)} out per million tokens"
        return f"{text} ({self.source})" if self.source else text


def price_of(
    model: str,
    provider_url: str | None = None,
    *,
    price_input: float | Decimal | None = None,
    price_output: float | Decimal | None = None,
    price_cached_input: float | Decimal | None = None,
    batch: bool = False,
) -> Price | None:
    """Find what a model's tokens cost at an endpoint.

    A price of the user wins over everything: a server on this machine may pass questions on to one that costs.
    Where the price depends on the hour, the dearest hour of the day counts.

    Args:
        model: Name of the model, as the endpoint spells it.
        provider_url: Address of the endpoint; None is OpenAI's.
        price_input: The user's price of a million tokens in.
        price_output: The user's price of a million tokens out.
        price_cached_input: The user's price of a million cached tokens in; that of others where not given.
        batch: Whether the questions wait in the provider's cheaper queue (half the price with OpenAI). Where the
            list has no price for it the full one counts; prices of the user count as given.

    Returns:
        The price; None where it is not known (:data:`PRICE_UNKNOWN` says what follows).

    Raises:
        ConfigurationError: Only one of the user's two prices is given, or one is negative or not a number.
    """
    own = _own_price(price_input, price_output, price_cached_input)
    if own is not None:
        return own
    url = provider_url or OPENAI_URL
    if is_loopback(url):
        return Price(Decimal(0), Decimal(0), Decimal(0), source=ON_THIS_MACHINE)
    return _listed_price(model, url, batch=batch)


def amount(value: float | Decimal, option: str) -> Decimal:
    """Read a sum of money that a user gave.

    Raises:
        ConfigurationError: Negative, or not a number.
    """
    read = Decimal(str(value))
    if not read.is_finite() or read < 0:
        raise ConfigurationError(f"{option} is {value}.", hint="Give 0 or a positive number, such as 0.15.")
    return read


def _own_price(
    price_input: float | Decimal | None, price_output: float | Decimal | None, cached: float | Decimal | None
) -> Price | None:
    if price_input is None and price_output is None and cached is None:
        return None
    if price_input is None or price_output is None:
        raise ConfigurationError(
            "Only one of --price-input and --price-output is given.",
            hint="Give both, in dollars for a million tokens.",
        )
    read = amount(price_input, "--price-input")
    return Price(
        input=read,
        cached_input=read if cached is None else amount(cached, "--price-cached-input"),
        output=amount(price_output, "--price-output"),
        source="as given",
    )


def _listed_price(model: str, url: str, *, batch: bool) -> Price | None:
    """The price in the package's list, at the dearest hour of the day."""
    from genai_prices import Usage as ListedUsage
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    context = {"processing": "batch"} if batch else None
    midnight = datetime.now(UTC).replace(hour=0, minute=30, second=0, microsecond=0)

    def cost(usage: ListedUsage, hour: int) -> Decimal:
        when = midnight + timedelta(hours=hour)
        return snapshot.calc(usage, model, None, url, when, context).total_price

    def dearest(usage: ListedUsage) -> Decimal:
        return max(cost(usage, hour) for hour in range(24))

    try:
        provider, listed = snapshot.find_provider_model(model, None, None, url)
        request = dearest(ListedUsage(input_tokens=0, output_tokens=0))
        read = dearest(ListedUsage(input_tokens=_SAMPLE_TOKENS, output_tokens=0)) - request
        written = dearest(ListedUsage(input_tokens=0, output_tokens=_SAMPLE_TOKENS)) - request
        cached = ListedUsage(input_tokens=_SAMPLE_TOKENS, cache_read_tokens=_SAMPLE_TOKENS, output_tokens=0)
        per_million = _MILLION / _SAMPLE_TOKENS
        origin = f"genai-prices {importlib.metadata.version('genai-prices')}: {provider.id}, {listed.id}"
        return Price(
            input=read * per_million,
            cached_input=(dearest(cached) - request) * per_million,
            output=written * per_million,
            request=request,
            source=origin + _of_the_queue(listed, batch),
        )
    except (LookupError, ValueError):
        # a model that the list does not have, or whose price has parts that tokens do not decide
        return None


def _of_the_queue(model: ModelInfo, batch: bool) -> str:
    if not batch:
        return ""
    known = any(variant.when.get("processing") == "batch" for variant in model.price_variants or ())
    return ", in the batch queue" if known else ", no price of a batch queue known"


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
