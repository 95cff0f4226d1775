"""A server that speaks OpenAI's interface and answers by a script, and counts what it is asked."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

PROMPT_TOKENS, COMPLETION_TOKENS = 100, 10


def answer(system: str, user: str) -> str:
    """What a language model would say."""
    if system.startswith("You explain"):
        return json.dumps({"explanation": f"words of kind {sum(user.encode()) % 1000}"})
    if system.startswith("You check"):
        number = int(user.rsplit("\n", 1)[1].split()[0])
        return json.dumps({"confidence": [(7 * place) % 11 for place in range(number)]})
    return json.dumps({"intruder": 2})


@dataclass
class Script:
    """What was asked, and what is answered.

    Attributes:
        url: The address to give as ``--base-url``.
        prompts: Each user message with how often it came.
        systems: Beginning of each system message, with how often it came.
        keys: Values of the Authorization header.
        answer: Makes the content of a reply.
        fault: Where it gives a response, that is sent instead.
    """

    url: str = ""
    prompts: Counter[str] = field(default_factory=Counter)
    systems: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    answer: Callable[[str, str], str] = answer
    fault: Callable[[int], Response | None] = lambda _number: None
    lock: Any = field(default_factory=threading.Lock)

    @property
    def asked(self) -> int:
        """Completions asked for."""
        return sum(self.prompts.values())

    def handle(self, request: Request) -> Response:
        """Answer a chat completion."""
        body = request.get_json()
        system, user = (message["content"] for message in body["messages"])
        with self.lock:
            self.prompts[user] += 1
            self.systems[" ".join(system.split()[:2])] += 1
            self.keys.add(request.headers.get("Authorization", ""))
            number = self.asked
        fault = self.fault(number)
        if fault is not None:
            return fault
        reply = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": self.answer(system, user)},
                }
            ],
            "usage": {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": COMPLETION_TOKENS,
                "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
            },
        }
        return Response(json.dumps(reply), content_type="application/json")


def serve(server: HTTPServer, models: tuple[str, ...] = ("small",)) -> Script:
    """Answer on this server."""
    script = Script(url=server.url_for("/v1"))
    listed = {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in models],
    }
    server.expect_request("/v1/models").respond_with_json(listed)
    server.expect_request("/v1/chat/completions", method="POST").respond_with_handler(script.handle)
    return script
