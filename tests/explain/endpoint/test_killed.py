"""A run that is killed while it asks goes on without paying again for what it had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from explain.endpoint.asking import completion

CONCURRENCY = 4
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
    settings = settings_for(sys.argv[1], concurrency=int(sys.argv[4]))
    with ReplyCache(Path(sys.argv[2])) as cache:
        async with OpenAIEndpoint(settings, cache, after=after) as endpoint:
            await asyncio.gather(*(endpoint.ask(question(str(number))) for number in range(30)))

asyncio.run(run())
"""


def test_a_killed_run_pays_for_no_reply_twice(httpserver: HTTPServer, tmp_path: Path) -> None:
    seen: list[bytes] = []

    def handle(request: Request) -> Response:
        seen.append(request.get_data())
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
            str(CONCURRENCY),
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, set(done.stdout.split())

    code, paid_before = run(10)
    assert code == -signal.SIGKILL
    assert len(paid_before) == 10
    code, paid_after = run(0)
    assert code == 0
    assert paid_before.isdisjoint(paid_after)
    assert paid_before | paid_after == {str(number) for number in range(30)}
    # What was under way when the process died may reach the server later, so count by question, not by time.
    asked = Counter(json.loads(body)["messages"][-1]["content"] for body in seen)
    assert set(asked) == paid_before | paid_after
    assert all(asked[question] == 1 for question in paid_before)
    assert len(seen) <= 30 + CONCURRENCY
