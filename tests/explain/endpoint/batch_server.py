"""An endpoint with a Batch API, and every fault that it can have."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

Answered = dict[str, Any]


def completion(text: str, *, finish_reason: str = "stop", tokens: tuple[int, int] = (20, 7)) -> Answered:
    return {
        "object": "chat.completion",
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}
        ],
        "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]},
    }


def answered(custom_id: str, body: Answered | None = None, status: int = 200) -> Answered:
    body = completion(json.dumps({"explanation": f"about {custom_id}"})) if body is None else body
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": "x", "custom_id": custom_id, "response": response, "error": None}


def not_answered(custom_id: str, code: str, message: str) -> Answered:
    return {"id": "x", "custom_id": custom_id, "response": None, "error": {"code": code, "message": message}}


class BatchServer:
    """Keeps files and batches, as OpenAI does. Each look at a batch takes it a step further.

    Attributes:
        batches: By id.
        files: Content by id.
        statuses: What a batch is at each look; the last one stays.
        calls: How often each thing was asked for.
        faults: Answers that are given, by what is asked for, in place of the true ones; each once.
        output: Makes the lines of the output file of the questions.
        errors: Makes the lines of the error file, where there is one.
        problem: What the errors of a batch say.
    """

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("/v1")
        self.batches: dict[str, Answered] = {}
        self.files: dict[str, bytes] = {}
        self.statuses = ["validating", "in_progress", "completed"]
        self.calls: Counter[str] = Counter()
        self.faults: dict[str, list[Callable[[], Response]]] = {}
        self.output: Callable[[list[str]], bytes] = lambda ids: lines(
            *(answered(name) for name in reversed(ids))
        )
        self.errors: Callable[[list[str]], bytes] = lambda ids: b""
        self.problem = ""
        self.keys: set[str] = set()
        server.expect_request("/v1/files", method="POST").respond_with_handler(self._upload)
        server.expect_request("/v1/batches", method="POST").respond_with_handler(self._create)
        server.expect_request("/v1/batches", method="GET").respond_with_handler(self._list)
        for kind, handler in (("batches", self._retrieve), ("files", self._content)):
            server.expect_request(re.compile(f"/v1/{kind}/.+")).respond_with_handler(handler)

    def requests(self, batch_id: str) -> list[Answered]:
        text = self.files[self.batches[batch_id]["input_file_id"]]
        return [json.loads(line) for line in text.splitlines()]

    def _fault(self, what: str) -> Response | None:
        self.calls[what] += 1
        waiting = self.faults.get(what)
        return waiting.pop(0)() if waiting else None

    def _upload(self, request: Request) -> Response:
        fault = self._fault("upload")
        if fault is not None:
            return fault
        assert request.form["purpose"] == "batch"
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = request.files["file"].read()
        return answer({"id": file_id, "object": "file", "purpose": "batch", "bytes": 1, "created_at": 0})

    def _create(self, request: Request) -> Response:
        asked = request.get_json()
        assert asked["completion_window"] == "24h"
        assert asked["endpoint"] == "/v1/chat/completions"
        self.keys.add(request.headers["Authorization"])
        fault = self._fault("create")
        if fault is not None and fault.status_code != 504:
            return fault
        batch_id = f"batch-{len(self.batches)}"
        self.batches[batch_id] = {"input_file_id": asked["input_file_id"], "looks": 0}
        # a gateway that gives up says nothing about what happened behind it
        return fault or answer(self._described(batch_id))

    def _list(self, _: Request) -> Response:
        fault = self._fault("list")
        found = [self._described(batch_id) for batch_id in self.batches]
        return fault or answer({"object": "list", "data": found, "has_more": False})

    def _retrieve(self, request: Request) -> Response:
        fault = self._fault("look")
        batch_id = request.path.rsplit("/", 1)[1]
        if fault is not None or batch_id not in self.batches:
            return fault or answer({"error": {"message": "No such batch"}}, 404)
        batch = self._described(batch_id)
        self.batches[batch_id]["looks"] += 1
        return answer(batch)

    def _content(self, request: Request) -> Response:
        fault = self._fault("content")
        file_id = request.path.split("/")[-2]
        if fault is not None or file_id not in self.files:
            return fault or answer({"error": {"message": "No such file"}}, 404)
        return Response(self.files[file_id], content_type="application/octet-stream")

    def _described(self, batch_id: str) -> Answered:
        batch = self.batches[batch_id]
        status = self.statuses[min(batch["looks"], len(self.statuses) - 1)]
        ids = [request["custom_id"] for request in self.requests(batch_id)]
        described = {
            "id": batch_id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": 0,
            "input_file_id": batch["input_file_id"],
            "status": status,
            "request_counts": {"total": len(ids), "completed": 0, "failed": 0},
        }
        if self.problem:
            described["errors"] = {"object": "list", "data": [{"code": "x", "message": self.problem}]}
        if status in ("completed", "expired", "cancelled"):
            for kind, made in (("output", self.output(ids)), ("error", self.errors(ids))):
                if made:
                    self.files[f"{kind}-{batch_id}"] = made
                    described[f"{kind}_file_id"] = f"{kind}-{batch_id}"
            described["request_counts"] |= {
                "completed": self.output(ids).count(b"\n"),
                "failed": self.errors(ids).count(b"\n"),
            }
        return described


def lines(*results: Answered) -> bytes:
    return b"".join(json.dumps(result).encode() + b"\n" for result in results)


def answer(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value), status=status, content_type="application/json")
