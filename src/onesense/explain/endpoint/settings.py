"""Where the language model is, and how it is asked."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)

from onesense.errors import ConfigurationError

OPENAI_URL = "https://api.openai.com/v1"

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class EndpointSettings(BaseModel):
    """An endpoint and how it is asked. Checked when made; the key is never part of a message.

    Attributes:
        base_url: Address of the OpenAI-compatible interface, with its path (usually ``/v1``).
        model: Name of the model there.
        api_key: Key; None for servers that want none.
        concurrency: Questions in flight at once.
        connect_timeout: Seconds until a connection stands.
        read_timeout: Seconds without a byte.
        attempt_timeout: Seconds for one attempt in all, from the question to the last byte.
        most_attempts: Times that one question is put.
        most_wait: Seconds that one question may wait between its attempts, in all.
        most_failures_in_row: Questions given up one after the other, after which the endpoint counts as gone.
        temperature: In place of each question's own, where set.
        max_tokens: In place of each question's own, where set: models that reason need more.
        seed: Of sampling, where the endpoint has one.
        structured: How the shape of the answer is asked for; each falls back to the next where refused.
        cache: File of the paid replies; None for the default place.
        allow_insecure: Send a key over plain http to another machine.

    Raises:
        ConfigurationError: An address that is not http(s), has a password in it, or would carry the key
            readable through the network; a value out of range.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, protected_namespaces=()
    )

    base_url: str = OPENAI_URL
    model: str = Field(min_length=1, max_length=500)
    api_key: SecretStr | None = None
    concurrency: int = Field(default=8, ge=1, le=256)
    connect_timeout: Seconds = 10.0
    read_timeout: Seconds = 60.0
    attempt_timeout: Seconds = 120.0
    most_attempts: int = Field(default=6, ge=1, le=100)
    most_wait: float = Field(default=300.0, ge=0, le=86_400)
    most_failures_in_row: int = Field(default=20, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    seed: int | None = None
    structured: Literal["json_schema", "json_object", "text"] = "json_schema"
    cache: Path | None = None
    allow_insecure: bool = False

    @model_validator(mode="wrap")
    @classmethod
    def _tell_faults(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            made = handler(data)
            made._check()
        except ValidationError as error:
            fault = _describe(error)
        except ValueError as error:
            fault = str(error)
        else:
            return made
        raise ConfigurationError(f"The endpoint cannot be used: {fault}.")

    @property
    def key(self) -> str:
        """The key as it is sent; empty where there is none. Never log, store or show it."""
        return "" if self.api_key is None else self.api_key.get_secret_value()

    @property
    def is_local(self) -> bool:
        """Whether the endpoint is on this machine."""
        return is_loopback(self.base_url)

    @property
    def is_openai(self) -> bool:
        """Whether the endpoint is OpenAI's own."""
        host = urlsplit(self.base_url).hostname or ""
        return host == "api.openai.com" or host.endswith(".api.openai.com")

    def _check(self) -> None:
        key = self.key
        if self.api_key is not None and not key:
            raise ValueError("the key is empty")
        if any(not 33 <= ord(character) <= 126 for character in key):
            raise ValueError("the key holds a blank, a line break or a character outside ASCII")
        parts = _split(self.base_url)
        if key and parts.scheme == "http" and not self.is_local and not self.allow_insecure:
            raise ValueError(
                f"the key would travel readable to {parts.hostname} (plain http); "
                "use https, or allow it with allow_insecure"
            )


def _split(base_url: str) -> SplitResult:
    """The parts of an address that can be asked.

    Raises:
        ValueError: It cannot; the message never repeats a password in it.
    """
    if any(ord(character) <= 32 or ord(character) == 127 for character in base_url):
        raise ValueError("the address holds a blank or a control character")
    try:
        parts = urlsplit(base_url)
        host, user, port = parts.hostname, parts.username, parts.port
    except ValueError:
        raise ValueError("the address cannot be read") from None  # the cause would repeat a password
    if user is not None or "@" in parts.netloc:
        raise ValueError("the address holds a user name or password; give the key as OPENAI_API_KEY")
    if parts.scheme not in ("http", "https"):
        raise ValueError("the address must begin with http:// or https://")
    if not host:
        raise ValueError("the address names no host")
    if port == 0:
        raise ValueError("the address names port 0")
    if parts.query or parts.fragment:
        raise ValueError("the address may not have a query or a fragment")
    return parts


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _describe(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(step) for step in fault["loc"])
        message = fault["msg"][:1].lower() + fault["msg"][1:]
        faults.append(f"`{place}`: {message}" if place else message)
    return "; ".join(faults)
