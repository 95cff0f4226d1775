"""A key that would be found: every fault with all logging on, and everything that was written is searched."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from explain.endpoint.asking import KEY, Said, completion, pace, question, raw_server, settings_for
from explain.endpoint.test_client_network import SHORT, babbles, drips, hangs_up, resets, silent
from onesense.errors import EndpointError
from onesense.explain.endpoint.cache import ReplyCache
from onesense.explain.endpoint.chat import ChatReply
from onesense.explain.endpoint.client import OpenAIEndpoint

ECHO = f"Incorrect API key provided: {KEY}. Authorization: Bearer {KEY}"
ESCAPED = KEY.replace("-", "\\u002d")


def error(status: int, **headers: str) -> Response:
    body = json.dumps({"error": {"message": ECHO, "code": KEY, "param": KEY}})
    return Response(body, status, headers=headers, mimetype="application/json")


ECHOING: dict[str, Any] = {
    **{str(status): error(status) for status in (400, 401, 402, 403, 404, 418, 422, 429, 500, 503)},
    "redirect": error(307, Location=f"https://{KEY}@evil.example/{KEY}"),
    "retry-after": error(429, **{"Retry-After": KEY}),
    "page": Response(f"<html>{ECHO}", content_type=f"text/{KEY}"),
    "text": completion(f'{{"explanation": "{ECHO}"}}'),
    "escaped": completion(f'{{"explanation": "{ESCAPED}"}}'),
    "prose": completion(ECHO),
    "refusal": completion(None, refusal=ECHO),
    "filtered": completion(ECHO, "content_filter"),
    "cut": completion(ECHO, "length"),
    "reason": completion("x", KEY),
    "names": completion(json.dumps({KEY: KEY})),
    "tool": completion(None, tool_calls=[{"id": KEY}]),
    "header": Response(json.dumps(completion()), mimetype="application/json", headers={"X-Key": KEY}),
}


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """All that any logger says, at the lowest level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root, names = logging.getLogger(), ("openai", "httpx2", "httpcore2", "onesense", "asyncio")
    levels = {name: logging.getLogger(name).level for name in (*names, "")}
    root.addHandler(handler)
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def outcome(url: str, folder: Path, **limits: float) -> str:
    """All that a caller can see of a question: its reply, or its error with the whole traceback."""

    async def run() -> list[ChatReply[Said]]:
        settings = settings_for(url, most_attempts=2, **limits)
        with ReplyCache(folder / "c.sqlite") as cache:
            async with OpenAIEndpoint(settings, cache, pace=pace()) as endpoint:
                seen = [await endpoint.ask(question()), await endpoint.ask(question())]
                return [*seen, repr(endpoint), repr(settings), repr(endpoint.totals)]  # type: ignore[list-item]

    try:
        return repr(asyncio.run(run()))
    except EndpointError as caught:
        return "".join(traceback.format_exception(*sys.exc_info())) + repr(caught.__reduce__())


def check(url: str, folder: Path, logged: io.StringIO) -> None:
    written = outcome(url, folder) + logged.getvalue()
    assert "httpcore2" in "".join(logging.root.manager.loggerDict)
    assert logged.getvalue().count("send_request_headers") >= 1
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for secret in (KEY, ESCAPED):
        assert secret not in written
        assert secret.encode() not in files
    assert b"SQLite format 3" in files


@pytest.mark.parametrize("reply", ECHOING.values(), ids=ECHOING)
def test_the_key_is_nowhere(
    httpserver: HTTPServer, reply: Any, tmp_path: Path, everything_logged: io.StringIO
) -> None:
    if not isinstance(reply, Response):
        reply = Response(json.dumps(reply), mimetype="application/json")
    httpserver.expect_request("/v1/chat/completions").respond_with_response(reply)
    httpserver.expect_request("/v1/models").respond_with_json({"data": [{"id": KEY}]})
    check(httpserver.url_for("/v1"), tmp_path, everything_logged)


@pytest.mark.parametrize("fault", [silent, drips, resets, hangs_up, babbles])
def test_the_key_is_nowhere_after_faults_of_the_network(
    fault: Any, tmp_path: Path, everything_logged: io.StringIO
) -> None:
    written = ""

    async def run() -> str:
        async with raw_server(fault) as url:
            return await asyncio.to_thread(outcome, url, tmp_path, **SHORT)

    written = asyncio.run(run()) + everything_logged.getvalue()
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "send_request_headers" in everything_logged.getvalue()
    assert KEY not in written
    assert KEY.encode() not in files


def test_the_search_would_find_it(everything_logged: io.StringIO) -> None:
    logging.getLogger("httpcore2.http11").debug("headers %s", [(b"Authorization", KEY)])
    assert KEY in everything_logged.getvalue()
