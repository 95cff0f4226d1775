"""An endpoint of which time costs nothing, and servers that misbehave below HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from pydantic import BaseModel

from onesense.explain.endpoint.chat import ChatReply, ChatRequest
from onesense.explain.endpoint.client import OpenAIEndpoint
from onesense.explain.endpoint.settings import EndpointSettings
from onesense.explain.endpoint.waiting import Pace

KEY = "sk-canary-4f1d9c07"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Said(BaseModel):
    """The answer that tests ask for."""

    explanation: str


@dataclass
class Sleeps:
    """Waits that take no time; how long they would have taken."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def pace(sleeps: Sleeps | None = None) -> Pace:
    """A clock that stands still and a die that falls the same way each time."""
    return Pace(sleeps or Sleeps(), lambda: NOW, Random(0))


def question(user: str = "which words?") -> ChatRequest[Said]:
    return ChatRequest("Say what the feature is.", user, Said)


def completion(
    content: Any = '{"explanation": "nurses"}', finish_reason: str = "stop", **message: Any
) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish_reason,
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
        "usage": {"prompt_tokens": 90, "completion_tokens": 7, "total_tokens": 97},
    }


def settings_for(base_url: str, **changes: Any) -> EndpointSettings:
    return EndpointSettings(**{"base_url": base_url, "model": "m", "api_key": KEY, **changes})


def ask(settings: EndpointSettings, *questions: ChatRequest[Said], **given: Any) -> list[ChatReply[Said]]:
    """Ask one question after the other."""

    async def run() -> list[ChatReply[Said]]:
        given.setdefault("pace", pace())
        async with OpenAIEndpoint(settings, **given) as endpoint:
            return [await endpoint.ask(one) for one in questions or (question(),)]

    return asyncio.run(run())


@asynccontextmanager
async def raw_server(serve: Serve) -> AsyncIterator[str]:
    """A TCP server that does what it likes; gives its address as a base URL of plain http."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Headers and body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        ),
        0,
    )
    return head + await reader.readexactly(length)


def http(body: dict[str, Any] | bytes, *, length: int | None = None, connection: str = "keep-alive") -> bytes:
    """A whole reply."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: {connection}\r\n"
    return f"{head}Content-Length: {length or len(encoded)}\r\n\r\n".encode() + encoded
