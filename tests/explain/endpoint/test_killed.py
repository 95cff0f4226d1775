"""A run that is killed while it asks goes on without paying again for what it had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from explain.endpoint.asking import completion

KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from explain.endpoint.asking import question, settings_for
from onesense.explain.endpoint.cache import ReplyCache
from onesense.explain.endpoint.client import OpenAIEndpoint

replies = 0

def after(request, reply):
    global replies
    replies += 1
    print(request.user, flush=True)
    if replies == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

async def run():
    settings = settings_for(sys.argv[1], concurrency=4)
    with ReplyCache(Path(sys.argv[2])) as cache:
        async with OpenAIEndpoint(settings, cache, after=after) as endpoint:
            await asyncio.gather(*(endpoint.ask(question(str(number))) for number in range(30)))

asyncio.run(run())
"""


def test_a_killed_run_pays_for_no_reply_twice(httpserver: HTTPServer, tmp_path: Path) -> None:
    seen: list[Request] = []

    def handle(request: Request) -> Response:
        seen.append(request)
        return Response(json.dumps(completion()), mimetype="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
    paths = [str(Path(__file__).parents[2]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def run(kill_at: int) -> tuple[int, set[str]]:
        command = [
            sys.executable,
            "-c",
            KILLED,
            httpserver.url_for("/v1"),
            str(tmp_path / "c.sqlite"),
            str(kill_at),
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, set(done.stdout.split())

    code, paid_before = run(10)
    assert code == -signal.SIGKILL
    assert len(paid_before) == 10
    first = len(seen)
    code, paid_after = run(0)
    assert code == 0
    assert paid_before.isdisjoint(paid_after)
    assert paid_before | paid_after == {str(number) for number in range(30)}
    assert len(seen) - first == 20
