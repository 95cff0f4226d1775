"""``onesense interpret --batch`` from end to end, with an emulated Batch API."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from cli.killable import start
from command_line import Run
from explain.endpoint.batch_server import BatchServer
from onesense.explain import queue
from onesense.store.run_folder import RunFolder

CANARY = "sk-canary-51d0b7aa90c2"
NAMES = ("nurse", "judge", "river", "stone")


@pytest.fixture
def server(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> BatchServer:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    return BatchServer(httpserver)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "top_activations_per_feature.json"
    path.write_text(
        json.dumps(
            [{"feature": 7 * at, "top_activated_words": f"{name} Ġ{name}s"} for at, name in enumerate(NAMES)]
        )
    )
    return path


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(_: float) -> None:
        pass

    patient = partial(queue.explain_through_queue, sleep=sleep)
    monkeypatch.setattr("onesense.explain.interpretation.explain_through_queue", patient)


def _flags(server: BatchServer, table: Path, *more: object) -> tuple[object, ...]:
    return (
        "interpret", "--input_file", table, "--output_file", table.with_name("out.json"), "--batch",
        "--run-folder", table.with_name("run"), "--base-url", server.url, "--model", "m",
        "--openai_api_key", CANARY, *more,
    )  # fmt: skip


@pytest.mark.usefixtures("_no_waiting")
def test_a_batch_explains_and_is_shown_as_the_original_showed_it(
    onesense: Run, server: BatchServer, table: Path
) -> None:
    outcome = onesense(*_flags(server, table))
    assert outcome.code == 0, outcome.err
    assert "File batch status: validating\n" in outcome.err
    assert "File batch status: completed\n" in outcome.err
    assert (
        "File counts: FileCounts(cancelled=0, completed=4, failed=0, in_progress=0, total=4)" in outcome.err
    )
    assert "Paid for: 80 tokens in, 28 out" in outcome.err
    names = [request["custom_id"] for request in server.requests("batch-0")]
    records = json.loads(table.with_name("out.json").read_text())
    assert [record["feature"] for record in records] == [0, 7, 14, 21]
    assert [record["explanation"] for record in records] == [f"about {name}" for name in names]
    assert {(record["status"], record["method"], record["model"]) for record in records} == {
        ("ok", "llm", "m")
    }
    shown = onesense("features", "show", 7, "--run-folder", table.with_name("run"))
    assert f"m: about {names[1]}" in shown.out
    assert onesense(*_flags(server, table)).code == 0
    assert server.calls["create"] == 1
    assert CANARY not in outcome.err + outcome.out
    for path in table.parent.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


@pytest.mark.usefixtures("_no_waiting")
def test_a_refused_batch_is_told_and_its_questions_stay_open(
    onesense: Run, server: BatchServer, table: Path
) -> None:
    server.statuses, server.problem = ["failed"], "Enqueued token limit reached."
    outcome = onesense(*_flags(server, table))
    assert outcome.code == 0, outcome.err
    assert "Warning: Batch batch-0 was refused: Enqueued token limit reached. Run the same" in outcome.err
    assert "4 http_error" in outcome.out
    records = json.loads(table.with_name("out.json").read_text())
    assert {record["explanation"] for record in records} == {None}
    server.statuses, server.problem = ["completed"], ""
    assert onesense(*_flags(server, table)).code == 0
    records = json.loads(table.with_name("out.json").read_text())
    assert {record["status"] for record in records} == {"ok"}


def test_a_budget_refuses_a_batch_that_may_cost_more(onesense: Run, server: BatchServer, table: Path) -> None:
    prices = ("--price-input", 10, "--price-output", 100)
    outcome = onesense(*_flags(server, table, *prices, "--budget", 0.02))
    assert outcome.code == 14, outcome.err
    assert "a batch cannot be stopped when its money is spent" in outcome.err
    assert "Traceback" not in outcome.err
    # An answer may be longer where the user says so, and cost more.
    dry = (*prices, "--dry-run", "--budget")
    assert onesense(*_flags(server, table, *dry, 1)).code == 0
    assert onesense(*_flags(server, table, *dry, 1, "--max-tokens", 4000)).code == 14
    assert not server.calls


def test_the_queue_of_openai_is_estimated_at_half_the_price(onesense: Run, table: Path) -> None:
    flags = ("interpret", "--input-file", table, "--openai-api-key", CANARY, "--dry-run")
    whole, half = onesense(*flags), onesense(*flags, "--batch")
    assert (whole.code, half.code) == (0, 0), half.err
    assert "$2.5 in, $10 out per million tokens" in whole.err
    assert "$1.25 in, $5 out per million tokens" in half.err


def test_killed_before_the_batch_is_confirmed_it_goes_on_with_the_same(
    onesense: Run, server: BatchServer, table: Path
) -> None:
    """The endpoint has the batch and the command does not know: it finds it, and submits nothing."""
    released = threading.Event()

    def lost() -> Response:
        released.wait(300)
        return Response("", status=504)

    server.faults["create"] = [lost]
    server.statuses = ["completed"]  # at the first look: no waiting
    flags = _flags(server, table, "--quiet")
    process = start(flags, err=table.with_name("err.txt"))
    deadline = time.monotonic() + 300
    while not server.calls["create"] and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert server.calls["create"] == 1, table.with_name("err.txt").read_text()
    released.set()
    while not server.batches and time.monotonic() < deadline:
        time.sleep(0.02)
    at_once = onesense(*(flag for flag in flags if flag != "--batch"))
    assert at_once.code == 5
    assert "Add --batch to go on with it" in at_once.err
    other = onesense(*flags, "--most", 2)
    assert other.code == 5
    assert "a batch of other questions" in other.err
    outcome = onesense(*flags)
    assert outcome.code == 0, outcome.err
    assert (server.calls["upload"], server.calls["create"], server.calls["list"]) == (1, 1, 1)
    records = json.loads(table.with_name("out.json").read_text())
    assert {record["status"] for record in records} == {"ok"}
    assert not list((RunFolder.open(table.with_name("run")).path / queue.FOLDER).iterdir())
