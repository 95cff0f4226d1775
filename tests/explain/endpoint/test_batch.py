from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from explain.endpoint.batch_server import BatchServer, answer, answered, completion, lines, not_answered
from explain.endpoint.questions import Said, question
from onesense.errors import EndpointError, FormatError, IncompatibleError
from onesense.explain.endpoint.batch import STATE_FILE, BatchQueue, FileCounts, read_reply
from onesense.explain.endpoint.batch_files import NOT_ANSWERED, BatchResult
from onesense.explain.endpoint.chat import Answer, ChatReply, ChatRequest, Usage

KEY = "sk-canary-0123456789"


@pytest.fixture
def server(httpserver: HTTPServer) -> BatchServer:
    return BatchServer(httpserver)


def body(request: ChatRequest[Any]) -> Mapping[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": request.user}], "max_tokens": 5}


def clean(text: str) -> str:
    return text.replace(KEY, "[key removed]")


def questions(count: int = 3) -> Iterator[tuple[str, ChatRequest[Said]]]:
    return ((f"{number}/explain", question(f"words of {number}")) for number in range(count))


class Run:
    """One start of a command: a queue of the folder and all that was shown and waited."""

    def __init__(
        self, server: BatchServer, folder: Path, *, count: int = 3, most_requests: int = 50_000
    ) -> None:
        self.shown: list[str] = []
        self.waits: list[float] = []
        self.server = server
        self.queue = BatchQueue.create(
            folder, questions(count), body, base_url=server.url, most_requests=most_requests
        )

    def go(self) -> dict[str, BatchResult]:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        async def run() -> None:
            async with openai.AsyncOpenAI(api_key=KEY, base_url=self.server.url, max_retries=5) as client:
                await self.queue.run(client, show=self.shown.append, clean=clean, sleep=sleep)

        asyncio.run(run())
        return {result.custom_id: result for result in self.queue.results(clean)}


class KilledError(BaseException):
    """In place of a kill."""


def killed() -> Response:
    raise KilledError


def read(payload: Mapping[str, Any], answer_type: type[Answer]) -> ChatReply[Answer]:
    choice = payload["choices"][0]
    if choice["finish_reason"] == "length":
        return ChatReply("truncated")
    value = answer_type.model_validate_json(choice["message"]["content"])
    return ChatReply("ok", value, usage=Usage(payload["usage"]["prompt_tokens"], 0, 1))


def test_questions_go_through_the_queue(server: BatchServer, tmp_path: Path) -> None:
    run = Run(server, tmp_path)
    results = run.go()
    assert list(results) == ["2/explain", "1/explain", "0/explain"]
    reply = read_reply(results["1/explain"], Said, read)
    assert reply.value == Said(explanation="about 1/explain")
    assert reply.usage == Usage(20, 0, 1)
    assert run.queue.finished
    assert run.queue.problems == []
    assert run.shown == [
        "File batch status: validating\n"
        "File counts: FileCounts(cancelled=0, completed=0, failed=0, in_progress=3, total=3)",
        "File batch status: in_progress\n"
        "File counts: FileCounts(cancelled=0, completed=0, failed=0, in_progress=3, total=3)",
        "File batch status: completed\n"
        "File counts: FileCounts(cancelled=0, completed=3, failed=0, in_progress=0, total=3)",
    ]
    assert server.keys == {f"Bearer {KEY}"}


def test_the_key_is_in_no_file(server: BatchServer, tmp_path: Path) -> None:
    server.errors = lambda ids: lines(not_answered("9/explain", "x", f"your key {KEY}"))
    server.statuses = ["failed"]
    server.problem = f"key {KEY} may not"
    run = Run(server, tmp_path)
    run.go()
    assert "[key removed] may not" in run.queue.problems[0]
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_intervals_grow_up_to_a_minute(server: BatchServer, tmp_path: Path) -> None:
    server.statuses = ["in_progress"] * 12 + ["completed"]
    run = Run(server, tmp_path)
    run.go()
    assert run.waits[:3] == [5, 7.5, 11.25]
    assert run.waits == sorted(run.waits)
    assert max(run.waits) == 60
    assert len(run.shown) == 2  # what has not changed is not shown again


def test_many_questions_are_several_batches(server: BatchServer, tmp_path: Path) -> None:
    run = Run(server, tmp_path, count=5, most_requests=2)
    results = run.go()
    assert server.calls["create"] == 3
    assert len(results) == 5
    assert all(result.completion is not None for result in results.values())
    assert run.queue.counts == FileCounts(0, 5, 0, 0, 5)
    run.queue.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["upload", "create", "list", "look", "content"])
def test_after_a_kill_the_same_batch_goes_on(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Killed right before and right after each step: nothing is submitted twice."""
    saves = 0
    whole = BatchQueue._save

    def save_until(queue: BatchQueue) -> None:
        nonlocal saves
        saves += 1
        if saves == stop:
            raise KilledError
        whole(queue)
        if saves == -stop:
            raise KilledError

    monkeypatch.setattr(BatchQueue, "_save", save_until)
    for stop in (*range(1, 6), *range(-5, 0)):
        saves = 0
        folder = tmp_path / f"{step}{stop}"
        created = server.calls["create"]
        with pytest.raises(KilledError):
            Run(server, folder, count=2).go()
        saves = 100
        server.faults = {step: [lambda: answer({"error": {"message": "busy"}}, 503)]}
        results = Run(server, folder, count=2).go()
        server.faults = {}
        assert all(result.completion is not None for result in results.values())
        # a refused submission is no submission
        assert server.calls["create"] - created <= 1 + (step == "create")
        assert len({batch["input_file_id"] for batch in server.batches.values()}) == len(server.batches)


def test_a_kill_between_upload_and_submission_uploads_no_more(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onesense.explain.endpoint import batch_exchange

    with monkeypatch.context() as patch:
        patch.setattr(batch_exchange.BatchExchange, "submit", lambda *_, **__: killed())
        with pytest.raises(KilledError):
            Run(server, tmp_path).go()
    Run(server, tmp_path).go()
    assert (server.calls["upload"], server.calls["create"], server.calls["list"]) == (1, 1, 1)


def test_a_gateway_that_gives_up_does_not_make_two_batches(server: BatchServer, tmp_path: Path) -> None:
    server.faults["create"] = [lambda: Response("<html>", status=504)]
    results = Run(server, tmp_path).go()
    assert len(server.batches) == 1
    assert server.calls["create"] == 1
    assert all(result.completion is not None for result in results.values())


def test_where_batches_cannot_be_listed_nothing_is_submitted_again(
    server: BatchServer, tmp_path: Path
) -> None:
    server.faults["create"] = [lambda: Response("", status=504)]
    server.faults["list"] = [lambda: answer({}, 404)]
    with pytest.raises(EndpointError, match="cannot be told whether the batch was submitted"):
        Run(server, tmp_path).go()
    assert server.calls["create"] == 1


def test_a_finished_batch_is_read_without_the_endpoint(server: BatchServer, tmp_path: Path) -> None:
    first = Run(server, tmp_path).go()
    calls = dict(server.calls)
    assert Run(server, tmp_path).go() == first
    assert dict(server.calls) == calls
    opened = BatchQueue.open(tmp_path)
    assert opened is not None
    assert opened.finished


def test_faults_of_results_are_left_out(server: BatchServer, tmp_path: Path) -> None:
    server.output = lambda ids: (
        lines(answered(ids[0]), answered(ids[0]), answered("99/explain"))
        + lines(answered(ids[1], completion("{", finish_reason="length")), answered(ids[2])).rstrip(b"}\n")
    )
    run = Run(server, tmp_path)
    results = run.go()
    assert read_reply(results["0/explain"], Said, read).status == "ok"
    assert read_reply(results["1/explain"], Said, read).status == "truncated"
    missing = read_reply(results["2/explain"], Said, read)
    assert (missing.status, missing.value, missing.detail) == ("http_error", None, NOT_ANSWERED)
    assert (run.queue.faults.unreadable, run.queue.faults.unknown, run.queue.faults.repeated) == (1, 1, 1)


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_is_there_of_an_unfinished_batch_is_kept(
    server: BatchServer, tmp_path: Path, status: str
) -> None:
    server.statuses = ["in_progress", status]
    server.output = lambda ids: lines(answered(ids[0]))
    server.errors = lambda ids: lines(not_answered(ids[1], f"batch_{status}", "too late"))
    run = Run(server, tmp_path)
    results = run.go()
    assert results["0/explain"].completion is not None
    assert results["1/explain"].detail == "too late"
    assert "1 of 3 questions are answered" in results["2/explain"].detail
    (problem,) = run.queue.problems
    assert problem.endswith("Run the same command again to ask the rest.")
    assert run.queue.counts == FileCounts(cancelled=1, completed=1, failed=1, in_progress=0, total=3)
    assert f"File batch status: {status}" in run.shown[-1]


def test_a_batch_that_is_refused_says_why(server: BatchServer, tmp_path: Path) -> None:
    server.statuses = ["validating", "failed"]
    server.problem = "Enqueued token limit reached for m.\nPlease wait."
    run = Run(server, tmp_path)
    results = run.go()
    assert (
        "was refused: Enqueued token limit reached for m. Please wait. Run the same" in run.queue.problems[0]
    )
    assert all("Enqueued token limit" in result.detail for result in results.values())
    assert read_reply(results["0/explain"], Said, read).status == "http_error"


def test_results_that_are_gone_are_missing(server: BatchServer, tmp_path: Path) -> None:
    server.faults["content"] = [lambda: answer({}, 404)]
    run = Run(server, tmp_path)
    results = run.go()
    assert all(result.completion is None for result in results.values())
    assert "does not have the results" in run.queue.problems[0]


def test_a_batch_that_the_endpoint_does_not_know(server: BatchServer, tmp_path: Path) -> None:
    server.faults["look"] = [lambda: answer({"error": {"message": "No such batch"}}, 404)]
    with pytest.raises(EndpointError, match="does not know batch batch-0") as caught:
        Run(server, tmp_path).go()
    assert str(tmp_path) in (caught.value.hint or "")
    assert all(result.completion for result in Run(server, tmp_path).go().values())
    assert server.calls["create"] == 1


REFUSALS = [
    (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, "refuses the API key"),
    (403, {}, "refuses the API key"),
    (429, {"error": {"code": "insufficient_quota", "message": "quota"}}, "no quota left"),
    (400, {"error": {"message": f"no batches for {KEY}"}}, "HTTP 400"),
    (404, {}, "has no Batch API"),
]


@pytest.mark.parametrize("step", ["upload", "create"])
@pytest.mark.parametrize(("status", "said", "message"), REFUSALS)
def test_refusals_stop_at_once(
    server: BatchServer, tmp_path: Path, step: str, status: int, said: dict[str, Any], message: str
) -> None:
    server.faults[step] = [lambda: answer(said, status)]
    run = Run(server, tmp_path)
    with pytest.raises(EndpointError, match=message) as caught:
        run.go()
    assert KEY not in str(caught.value)
    assert run.waits == []
    assert server.calls[step] == 1
    assert all(result.completion for result in Run(server, tmp_path).go().values())


TRANSIENT: list[Callable[[], Response]] = [
    lambda: answer({}, 429),
    lambda: answer({}, 500),
    lambda: Response("<html>busy</html>", content_type="text/html"),
    lambda: Response("{", content_type="application/json"),
    lambda: answer({"id": None}),
    lambda: answer([]),
]


@pytest.mark.parametrize("step", ["upload", "create", "look"])
@pytest.mark.parametrize("fault", TRANSIENT)
def test_what_passes_is_waited_for(
    server: BatchServer, tmp_path: Path, step: str, fault: Callable[[], Response]
) -> None:
    server.faults[step] = [fault, fault]
    run = Run(server, tmp_path)
    assert all(result.completion is not None for result in run.go().values())
    assert run.waits[:2] == [5, 7.5]
    assert len(server.batches) == 1


def test_an_endpoint_that_stays_away_is_given_up_and_the_state_kept(
    server: BatchServer, tmp_path: Path
) -> None:
    server.faults["look"] = [lambda: answer({}, 503)] * 30
    run = Run(server, tmp_path)
    with pytest.raises(EndpointError, match="HTTP 503, 30 times") as caught:
        run.go()
    assert "go on with the same batch" in (caught.value.hint or "")
    assert 1400 < sum(run.waits) < 1500
    assert all(result.completion for result in Run(server, tmp_path).go().values())


def test_nothing_there(tmp_path: Path, server: BatchServer) -> None:
    server.url = "http://127.0.0.1:9/v1"
    run = Run(server, tmp_path)
    with pytest.raises(EndpointError, match="no connection, 6 times"):
        run.go()


def test_a_download_that_breaks_off_is_begun_again(server: BatchServer, tmp_path: Path) -> None:
    def cut() -> Response:
        return Response(iter([b"half"]), headers={"Content-Length": "4000"})

    server.faults["content"] = [cut]
    run = Run(server, tmp_path)
    assert all(result.completion is not None for result in run.go().values())
    assert server.calls["content"] == 2


def test_more_than_results_can_be_is_refused(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onesense.explain.endpoint import batch_exchange

    monkeypatch.setattr(batch_exchange, "_MOST_BYTES_A_RESULT", 10)
    with pytest.raises(EndpointError, match="more than 30 bytes"):
        Run(server, tmp_path).go()
    assert not [path for path in tmp_path.iterdir() if "results" in path.name]


def test_other_questions_do_not_take_the_place_of_a_batch(server: BatchServer, tmp_path: Path) -> None:
    Run(server, tmp_path)
    with pytest.raises(IncompatibleError, match="a batch of other questions"):
        Run(server, tmp_path, count=4)
    assert len(list(tmp_path.iterdir())) == 2
    Run(server, tmp_path).go()


def test_another_endpoint_is_not_asked_about_it(server: BatchServer, tmp_path: Path) -> None:
    Run(server, tmp_path)
    server.url = "http://127.0.0.1:9/v1"
    with pytest.raises(IncompatibleError, match="was begun at"):
        Run(server, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"schema_version": 2, "base_url": "x", "parts": []}', '{"base_url": 1, "parts": 2}'],
)
def test_a_damaged_state_is_refused(server: BatchServer, tmp_path: Path, text: str) -> None:
    Run(server, tmp_path)
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(FormatError):
        BatchQueue.open(tmp_path)


def test_damaged_questions_are_refused(server: BatchServer, tmp_path: Path) -> None:
    queue = Run(server, tmp_path).queue
    (questions_file,) = (path for path in tmp_path.iterdir() if path.name != STATE_FILE)
    questions_file.write_bytes(questions_file.read_bytes()[:-10])
    with pytest.raises(FormatError, match="damaged or missing"):
        BatchQueue.open(tmp_path)
    state = json.loads((tmp_path / STATE_FILE).read_text())
    state["parts"][0]["name"] = "../elsewhere"
    (tmp_path / STATE_FILE).write_text(json.dumps(state))
    with pytest.raises(FormatError, match="damaged or missing"):
        BatchQueue.open(tmp_path)
    assert not queue.finished
