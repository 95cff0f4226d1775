"""One request to an endpoint and what came of it: a completion or a fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import httpx2
import openai

from onesense.explain.endpoint.completion import RawReply, read_completion
from onesense.explain.endpoint.faults import (
    Fault,
    Retry,
    fault_of_exception,
    fault_of_payload,
    fault_of_response,
)
from onesense.explain.endpoint.settings import EndpointSettings

MOST_BYTES = 2_000_000
"""Of one reply; reading stops there."""

_LIST_SECONDS = 10.0
_NO_KEY = "none"


class Exchange:
    """Talks to the endpoint with the ``openai`` client, which neither asks again nor follows redirects here.

    Args:
        settings: Address, key and time limits.
        transport: Takes the place of the network.
    """

    def __init__(
        self, settings: EndpointSettings, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        timeout = openai.Timeout(settings.read_timeout, connect=settings.connect_timeout, pool=None)
        self._http = openai.DefaultAsyncHttpxClient(
            timeout=timeout,
            follow_redirects=False,
            event_hooks={"response": [_limit_size]},
            transport=transport,
        )
        self._client = openai.AsyncOpenAI(
            # never empty: the library would take the one from the environment, or refuse; without a key no
            # header is sent (see _headers)
            api_key=settings.key or _NO_KEY,
            base_url=settings.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=self._http,
        )
        self._own = _headers(settings)

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The client, for what is no chat completion."""
        return self._client

    async def complete(self, body: Mapping[str, Any], *, now: datetime) -> RawReply | Fault:
        """Send one question.

        Args:
            body: Of the chat completion.
            now: The time, for dates in headers.

        Returns:
            What the model wrote, or what went wrong. Nothing is raised for what an endpoint does.
        """
        rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
        try:
            async with asyncio.timeout(self._settings.attempt_timeout):
                # as extra_body the library sends the rest as it is, and does not walk through the schema
                answered = await self._client.chat.completions.with_raw_response.create(
                    model=body["model"], messages=body["messages"], extra_body=rest, extra_headers=self._own
                )
        except openai.APIStatusError as error:
            response = error.response
            return fault_of_response(response.status_code, response.headers, response.text, now=now)
        except _UnreadError as error:
            if error.code != 200:
                return fault_of_response(error.code, error.headers, "", now=now)
            return error.outcome
        except Exception as error:
            fault = fault_of_exception(error)
            if fault is None:
                raise
            return fault
        response = answered.http_response
        try:
            payload = json.loads(response.content)
        except (ValueError, RecursionError):
            payload = None
        raw = read_completion(payload)
        return fault_of_payload(payload, response.headers, response.text, now=now) if raw is None else raw

    async def models(self) -> list[str]:
        """Names of the models that the endpoint lists; empty where it does not."""
        try:
            async with asyncio.timeout(_LIST_SECONDS):
                answered = await self._client.models.with_raw_response.list(extra_headers=self._own)
            listed = json.loads(answered.http_response.content)["data"]
            return [str(model["id"]) for model in listed]
        except Exception:  # only the hint of another error depends on it
            return []

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class _UnreadError(Exception):
    """A body is not read, or not to its end; what follows where the reply is no error anyway."""

    def __init__(self, response: httpx2.Response, outcome: RawReply | Retry) -> None:
        super().__init__("the body was not read")
        self.code = response.status_code
        self.headers = response.headers
        self.outcome = outcome


class _Limited(httpx2.AsyncByteStream):
    """A body that ends with an error where it becomes too large."""

    def __init__(self, response: httpx2.Response, stream: httpx2.AsyncByteStream) -> None:
        self._response = response
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > MOST_BYTES:
                fault = f"the reply is larger than {MOST_BYTES:,} bytes"
                raise _UnreadError(self._response, RawReply("", fault=fault))
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _limit_size(response: httpx2.Response) -> None:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):  # not asked for, and its size unpacked is known too late
        await response.aclose()
        reason = "HTTP 200 with a compressed body that was not asked for"
        raise _UnreadError(response, Retry(reason, lacks="completion"))
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Limited(response, response.stream)


def _headers(settings: EndpointSettings) -> Any:
    """Headers of every request: no compression, and nothing of the environment for other hosts than OpenAI's."""
    headers: dict[str, Any] = {"Accept-Encoding": "identity"}
    if not settings.key:
        headers["Authorization"] = openai.Omit()
    if not settings.is_openai:
        headers |= {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
    return headers
