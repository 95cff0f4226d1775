"""Explanations through the batch queue: all of a batch arrives, once, whenever the command is killed."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from explain.asked import AskedRun
from explain.endpoint.asking import KEY
from explain.endpoint.batch_server import BatchServer, answer, answered, completion, lines, not_answered
from onesense.errors import EndpointError, IncompatibleError, StorageError
from onesense.explain import queue as queue_module
from onesense.explain.asking import Prices
from onesense.explain.endpoint.batch_exchange import BatchExchange
from onesense.explain.queue import FOLDER, explain_through_queue, require_no_batch
from onesense.store.catalog import Catalog
from onesense.store.explanations import ExplanationRow, read_explanations, write_explanations

FEATURES = 3


class KilledError(BaseException):
    """In place of a kill."""


class Calls:
    """Starts of the same command, with a clock that takes no time."""

    def __init__(self, asked: AskedRun) -> None:
        self.asked = asked
        self.shown: list[str] = []
        self.waits: list[float] = []
        self.killed_at: int | None = None
        self.spent: Any = None

    def go(self, features: int | None = None, prices: Prices | None = None, **settings: Any) -> list[str]:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            if len(self.waits) == self.killed_at:
                raise KilledError

        with self.asked.asking(prices, **settings) as asking:
            problems = explain_through_queue(
                asking,
                self.asked.questions(asking, features),
                self.asked.run,
                self.asked.catalog,
                self.shown.append,
                sleep=sleep,
            )
            self.spent = asking.ledger.spending
        return problems

    def rows(self, **chosen: Any) -> list[ExplanationRow]:
        return read_explanations(self.asked.catalog, **chosen)

    @property
    def folder(self) -> Path:
        return self.asked.run.path / FOLDER


@pytest.fixture
def server(httpserver: HTTPServer) -> BatchServer:
    return BatchServer(httpserver)


@pytest.fixture
def calls(server: BatchServer, tmp_path: Path) -> Iterator[Calls]:
    asked = AskedRun(tmp_path, FEATURES, server.url)
    yield Calls(asked)
    asked.catalog.close()


def _asked(server: BatchServer) -> list[str]:
    """Names of all questions that were ever submitted."""
    return [request["custom_id"] for batch in server.batches for request in server.requests(batch)]


def test_every_answer_of_a_batch_is_kept(server: BatchServer, calls: Calls) -> None:
    server.output = lambda ids: lines(
        answered(ids[1], completion("no JSON")),
        answered(ids[0]),
        answered(ids[2], completion("", finish_reason="length")),
    )
    assert calls.go(prices=Prices(price_input=1.0, price_output=2.0)) == []
    rows = calls.rows()
    assert [row.feature for row in rows] == [0, 1, 2]
    assert [row.status for row in rows] == ["ok", "unparseable", "truncated"]
    assert rows[0].text == f"about {_asked(server)[0]}"
    assert {(row.sense, row.method, row.model) for row in rows} == {(-1, "llm", "m")}
    assert (rows[0].prompt_tokens, rows[0].completion_tokens) == (20, 7)
    assert calls.shown[-1] == (
        "File batch status: completed\n"
        "File counts: FileCounts(cancelled=0, completed=3, failed=0, in_progress=0, total=3)"
    )
    assert calls.spent.requests == 3
    assert calls.spent.cost == Decimal(3 * (20 + 2 * 7)) / 1_000_000
    assert not list(calls.folder.iterdir())


def test_the_question_is_the_one_that_is_asked_at_once(server: BatchServer, calls: Calls) -> None:
    calls.go(max_tokens=77)
    with calls.asked.asking(max_tokens=77) as asking:
        questions = calls.asked.questions(asking)
        assert list(questions) == []
        assert questions.done == FEATURES
    body = server.requests("batch-0")[2]["body"]
    assert body["model"] == "m"
    assert 77 in body.values()
    assert "word2" in body["messages"][1]["content"]
    assert body["response_format"]["type"] == "json_schema"
    assert calls.go(max_tokens=77) == []
    assert server.calls["create"] == 1


def _kill(monkeypatch: pytest.MonkeyPatch, calls: Calls, moment: str) -> None:
    """Break the next call off at a moment."""

    async def killed(*_: object, **__: object) -> None:
        raise KilledError

    # what a process that dies in the middle has written
    def some(catalog: Catalog, rows: Any) -> None:
        write_explanations(catalog, list(rows)[:2])
        raise KilledError

    def removed(*_: object) -> None:
        raise KilledError

    if moment == "upload":
        monkeypatch.setattr(BatchExchange, "upload", killed)
    if moment == "submission":
        monkeypatch.setattr(BatchExchange, "submit", killed)
    if moment == "waiting":
        calls.killed_at = 2
    if moment == "fetching":
        monkeypatch.setattr(BatchExchange, "download", killed)
    if moment == "keeping":
        monkeypatch.setattr(queue_module, "write_explanations", some)
    if moment == "clearing":
        monkeypatch.setattr(queue_module.BatchQueue, "remove", removed)


@pytest.mark.parametrize("moment", ["upload", "submission", "waiting", "fetching", "keeping", "clearing"])
def test_killed_at_any_moment_the_same_call_goes_on(
    server: BatchServer, calls: Calls, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with monkeypatch.context() as patch:
        _kill(patch, calls, moment)
        with pytest.raises(KilledError):
            calls.go()
    calls.killed_at = None
    assert calls.go() == []
    assert (server.calls["upload"], server.calls["create"]) == (1, 1)
    assert sorted(_asked(server)) == sorted(set(_asked(server)))
    assert [row.status for row in calls.rows()] == ["ok"] * FEATURES
    assert [row.text for row in calls.rows()] == [f"about {name}" for name in _asked(server)]
    assert not list(calls.folder.iterdir())


def test_a_full_disk_while_answers_are_kept_loses_none(
    server: BatchServer, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(queue_module, "write_explanations", full)
        with pytest.raises(StorageError):
            calls.go()
    assert calls.go() == []
    assert server.calls["create"] == 1
    assert len(calls.rows()) == FEATURES


def test_further_questions_follow_in_a_batch_of_their_own(server: BatchServer, calls: Calls) -> None:
    calls.killed_at = 1
    with pytest.raises(KilledError):
        calls.go(features=2)
    calls.killed_at = None
    assert calls.go() == []
    assert [len(server.requests(batch)) for batch in server.batches] == [2, 1]
    assert len(calls.rows()) == FEATURES


@pytest.mark.parametrize("other", [{"features": 2}, {"model": "another"}, {"max_tokens": 9}])
def test_a_batch_of_other_questions_is_not_taken_for_this_one(
    server: BatchServer, calls: Calls, other: dict[str, Any]
) -> None:
    """Its answers would be lost, or be called those of another model."""
    calls.killed_at = 1
    with pytest.raises(KilledError):
        calls.go()
    calls.killed_at = None
    with pytest.raises(IncompatibleError, match="a batch of other questions") as caught:
        calls.go(**other)
    assert "Run the command that began it" in (caught.value.hint or "")
    assert calls.rows() == []
    assert calls.go() == []
    assert {row.model for row in calls.rows()} == {"m"}
    assert server.calls["create"] == 1


def test_nothing_is_asked_at_once_while_a_batch_waits(calls: Calls) -> None:
    require_no_batch(calls.asked.run)
    calls.killed_at = 1
    with pytest.raises(KilledError):
        calls.go()
    with pytest.raises(IncompatibleError, match="was not finished") as caught:
        require_no_batch(calls.asked.run)
    assert "--batch" in (caught.value.hint or "")
    calls.killed_at = None
    calls.go()
    require_no_batch(calls.asked.run)


def test_a_stored_reply_is_not_submitted(server: BatchServer, calls: Calls, tmp_path: Path) -> None:
    calls.go(features=2)
    other = Calls(AskedRun(tmp_path / "other", FEATURES, server.url))
    other.asked.cache = calls.asked.cache
    assert other.go(prices=Prices(price_input=1.0, price_output=1.0)) == []
    assert [len(server.requests(batch)) for batch in server.batches] == [2, 1]
    assert [row.text for row in other.rows()[:2]] == [row.text for row in calls.rows()]
    assert other.spent.requests == 1
    third = Calls(AskedRun(tmp_path / "third", FEATURES, server.url))
    third.asked.cache = calls.asked.cache
    assert third.go() == []
    assert len(third.rows()) == FEATURES
    assert server.calls["create"] == 2


def test_a_refused_batch_says_so_and_leaves_its_questions_open(server: BatchServer, calls: Calls) -> None:
    server.statuses = ["validating", "failed"]
    server.problem = f"Enqueued token limit reached for {KEY}."
    (problem,) = calls.go()
    assert "was refused: Enqueued token limit reached for [key removed]" in problem
    assert "Run the same command again" in problem
    rows = calls.rows()
    assert {(row.status, row.text) for row in rows} == {("http_error", "")}
    assert all("Enqueued token limit" in row.detail and KEY not in row.detail for row in rows)
    assert calls.spent.usage.prompt_tokens == 0
    server.statuses, server.problem = ["completed"], ""
    assert calls.go() == []
    assert {row.status for row in calls.rows()} == {"ok"}
    assert server.calls["create"] == 2


def test_an_expired_batch_keeps_what_is_answered(server: BatchServer, calls: Calls) -> None:
    server.statuses = ["expired"]
    server.output = lambda ids: lines(answered(ids[1]))
    (problem,) = calls.go()
    assert "not done within 24 hours: 1 of 3 questions" in problem
    assert [row.status for row in calls.rows()] == ["http_error", "ok", "http_error"]
    server.statuses = ["completed"]
    server.output = lambda ids: lines(*(answered(name) for name in ids))
    assert calls.go() == []
    assert len(server.requests("batch-1")) == 2
    assert [row.status for row in calls.rows()] == ["ok"] * FEATURES


def test_questions_without_an_answer_are_told(server: BatchServer, calls: Calls) -> None:
    server.output = lambda ids: lines(answered(ids[0]), answered("99/-1/x")) + b'{"custom_id": "1'
    server.errors = lambda ids: lines(not_answered(ids[1], "x", "No response_format here."))
    missing, left_out = calls.go()
    assert missing.startswith("2 questions have no answer: ")
    assert missing.endswith("Run the same command to ask them.")
    assert "1 cut or damaged, 1 about questions that were not asked" in left_out
    assert [row.status for row in calls.rows()] == ["ok", "http_error", "http_error"]
    assert calls.rows(feature=1)[0].detail == "No response_format here."


def test_a_refused_key_keeps_the_questions_and_shows_no_key(server: BatchServer, calls: Calls) -> None:
    server.faults["upload"] = [lambda: answer({"error": {"message": f"Incorrect key {KEY}"}}, 401)]
    with pytest.raises(EndpointError, match="refuses the API key") as caught:
        calls.go()
    assert KEY not in str(caught.value)
    assert calls.go() == []
    for path in calls.asked.run.path.parent.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_an_answer_of_the_queue_is_that_of_the_endpoint(
    server: BatchServer, calls: Calls, tmp_path: Path
) -> None:
    """Its reply is stored: the endpoint, which this server has not, need not be asked at once."""
    calls.go()
    other = AskedRun(tmp_path / "other", FEATURES, server.url)
    other.cache = calls.asked.cache
    with other.asking() as asking:
        assert asking.explain(other.questions(asking), other.catalog, lambda *_: None, FEATURES) == FEATURES
        assert asking.ledger.spending.requests == 0
    assert read_explanations(other.catalog) == calls.rows()
    other.catalog.close()
