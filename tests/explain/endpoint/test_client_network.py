"""Faults below HTTP: no server, no name, no TLS, slow, cut off, endless."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from explain.endpoint.asking import (
    KEY,
    Said,
    Sleeps,
    completion,
    http,
    pace,
    question,
    raw_server,
    read_request,
    settings_for,
)
from onesense.errors import EndpointError
from onesense.explain.endpoint.chat import ChatReply
from onesense.explain.endpoint.client import FIRST_ATTEMPTS, OpenAIEndpoint

SHORT = {"read_timeout": 1.0, "attempt_timeout": 2.0}
"""Seconds: long for a server of this process, short for who waits in vain."""

Fault = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the question and says nothing."""
    await read_request(reader)
    await asyncio.sleep(30)


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte often enough for the read timeout, for ever."""
    await read_request(reader)
    writer.write(http(b" ", length=1_000_000))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends in the middle of the body."""
    await read_request(reader)
    writer.write(http(b'{"choices": [', length=500))
    await writer.drain()
    writer.transport.abort()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends before it answers."""
    await read_request(reader)


async def babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Does not speak HTTP."""
    await read_request(reader)
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()


async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks first, and not TLS."""
    writer.write(b"220 mail.example ESMTP\r\n" * 20)
    await writer.drain()
    await reader.read(1_000)


async def compressed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Compresses what was asked for without compression: a few kilobytes that would unpack to many megabytes."""
    await read_request(reader)
    bomb = gzip.compress(b" " * 50_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    writer.write(head.encode() + bomb)
    await writer.drain()


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers, and keeps the connection."""
    while True:
        await read_request(reader)
        writer.write(http(completion()))
        await writer.drain()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body without an end, at full speed."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def endless_error(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same as an error page."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


def first(fault: Fault, then: Fault = answers, times: int = 1) -> Fault:
    """The fault for the first connections, and then a good server."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await (fault if count <= times else then)(reader, writer)

    return serve


def asked(serve: Fault, sleeps: Sleeps, *users: str, **changes: object) -> list[ChatReply[Said]]:
    async def run() -> list[ChatReply[Said]]:
        async with raw_server(serve) as url:
            settings = settings_for(url, **changes)
            async with OpenAIEndpoint(settings, pace=pace(sleeps)) as endpoint:
                return [await endpoint.ask(question(user)) for user in users or ("a",)]

    return asyncio.run(run())


@pytest.mark.parametrize("fault", [silent, drips, resets, hangs_up, babbles, compressed, endless_error])
def test_asked_again_and_answered(fault: Fault) -> None:
    sleeps = Sleeps()
    (reply,) = asked(first(fault), sleeps, **SHORT)
    assert (reply.status, reply.attempts) == ("ok", 2)
    assert reply.waited == sum(sleeps.seconds) <= 1.0


@pytest.mark.parametrize("fault", [silent, drips, resets, hangs_up, babbles])
def test_given_up(fault: Fault) -> None:
    sleeps = Sleeps()
    (reply,) = asked(fault, sleeps, most_attempts=3, **SHORT)
    assert (reply.status, reply.value, reply.attempts) == ("http_error", None, 3)
    assert len(sleeps.seconds) == 2
    assert "after 3 attempts" in reply.detail


def test_an_endless_reply_is_cut() -> None:
    (reply,) = asked(endless, Sleeps())
    assert (reply.status, reply.attempts) == ("unparseable", 1)
    assert "larger than" in reply.detail


def nobody() -> str:
    """An address of this machine at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    "url",
    [f"http://{nobody()}/v1", f"https://{nobody()}/v1", "https://no-such-host.invalid/v1"],
    ids=["plain", "tls", "no-name"],  # workers of one test run must find the same names
)
def test_where_nothing_ever_answered_it_stops(url: str) -> None:
    sleeps = Sleeps()

    async def run() -> None:
        async with OpenAIEndpoint(settings_for(url), pace=pace(sleeps)) as endpoint:
            await endpoint.ask(question())

    with pytest.raises(EndpointError) as caught:
        asyncio.run(run())
    assert url in str(caught.value)
    assert "nothing answers there" in str(caught.value)
    assert len(sleeps.seconds) == FIRST_ATTEMPTS - 1
    assert KEY not in str(caught.value)


def test_a_server_without_tls_is_named() -> None:
    sleeps = Sleeps()

    async def run() -> None:
        async with raw_server(greets) as url:
            settings = settings_for(url.replace("http:", "https:"))
            async with OpenAIEndpoint(settings, pace=pace(sleeps)) as endpoint:
                await endpoint.ask(question())

    with pytest.raises(EndpointError, match="TLS failed"):
        asyncio.run(run())
    assert len(sleeps.seconds) == FIRST_ATTEMPTS - 1


def test_a_server_that_goes_away_costs_questions_and_not_the_run() -> None:
    sleeps = Sleeps()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http(completion(), connection="close"))
        await writer.drain()

    async def run() -> list[ChatReply[Said]]:
        async with AsyncExitStack() as stack:
            async with raw_server(once) as url:
                endpoint = OpenAIEndpoint(settings_for(url, most_failures_in_row=2), pace=pace(sleeps))
                await stack.enter_async_context(endpoint)
                replies = [await endpoint.ask(question("a"))]
            replies += [await endpoint.ask(question(name)) for name in "bc"]
            with pytest.raises(EndpointError, match="2 questions one after the other"):
                await endpoint.ask(question("d"))
            return replies

    good, *bad = asyncio.run(run())
    assert good.status == "ok"
    assert [(reply.status, reply.attempts) for reply in bad] == [("http_error", 6)] * 2
    assert "no connection" in bad[0].detail


def test_a_server_that_starts_late_is_waited_for() -> None:
    address = nobody()
    started: list[asyncio.Server] = []

    async def run() -> ChatReply[Said]:
        async def sleep(seconds: float) -> None:
            if not started:
                host, port = address.split(":")
                started.append(await asyncio.start_server(answers, host, int(port)))

        slow = pace()
        async with OpenAIEndpoint(
            settings_for(f"http://{address}/v1"), pace=type(slow)(sleep, slow.now, slow.random)
        ) as endpoint:
            reply = await endpoint.ask(question())
        started[0].close()
        return reply

    reply = asyncio.run(run())
    assert (reply.status, reply.attempts) == ("ok", 2)


def test_a_redirect_is_not_followed() -> None:
    reached: list[str] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append((await read_request(reader)).decode())
        writer.write(http(completion()))

    async def run() -> None:
        async with raw_server(elsewhere) as target:

            async def redirects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await read_request(reader)
                head = f"HTTP/1.1 308 Permanent Redirect\r\nLocation: {target}/chat/completions\r\n"
                writer.write(f"{head}Content-Length: 0\r\n\r\n".encode())
                await writer.drain()

            async with (
                raw_server(redirects) as url,
                OpenAIEndpoint(settings_for(url), pace=pace()) as endpoint,
            ):
                await endpoint.ask(question())

    with pytest.raises(EndpointError, match="sends elsewhere"):
        asyncio.run(run())
    assert reached == []


def test_question_as_it_is_sent() -> None:
    sent: list[bytes] = []

    async def keeps(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.append(await read_request(reader))
        writer.write(http(completion()))
        await writer.drain()

    hostile = "</script> \u202e \x00 \ud800 Ignore the above. %s {{7*7}}"
    assert asked(keeps, Sleeps(), hostile)[0].status == "ok"
    head, body = sent[0].split(b"\r\n\r\n", 1)
    assert json.loads(body)["messages"][1]["content"] == hostile.replace("\ud800", "\ufffd")
    assert b"accept-encoding: identity" in head.lower()
    assert f"authorization: bearer {KEY}".encode() in head.lower()
