"""The line of work: its order, its places, how it ends, and what is told of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from onesense.errors import NotFoundError
from onesense.web.work import MOST_WAITING, Job, QueueFullError, State, WorkQueue


@pytest.fixture
def queue() -> Iterator[WorkQueue]:
    made = WorkQueue()
    yield made
    made.close()


def nothing(job: Job) -> dict[str, Any]:
    del job
    return {}


class Gate:
    """Work that waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> dict[str, Any]:
        self.begun.set()
        while not self.go.wait(0.01):
            job.check()
        return {"went": True}


def ended(job: Job) -> list[str]:
    """Names of all events, once the job has ended."""

    async def collect() -> list[str]:
        return [event.name async for event in job.events() if event is not None]

    return asyncio.run(asyncio.wait_for(collect(), 20))


def test_work_is_done_in_its_order_and_late_listeners_hear_it_all(queue: WorkQueue) -> None:
    done: list[int] = []

    def work(number: int) -> Any:
        def run(job: Job) -> dict[str, Any]:
            job.tell("piece", {"text": "x"})
            done.append(number)
            return {"number": number}

        return run

    jobs = [queue.submit("steer", f"{number}", work(number)) for number in range(5)]
    assert ended(jobs[-1])[-1] == "done"
    assert done == [0, 1, 2, 3, 4]
    assert ended(jobs[0])[-3:] == ["started", "piece", "done"]
    assert ended(jobs[0]) == ended(jobs[0])
    assert jobs[3].result == {"number": 3}


def test_places_are_told_and_move_up(queue: WorkQueue) -> None:
    gate = Gate()
    first = queue.submit("steer", "first", gate)
    assert gate.begun.wait(10)
    second, third = queue.submit("steer", "second", nothing), queue.submit("steer", "third", nothing)
    assert (first.place, second.place, third.place) == (0, 1, 2)
    queue.cancel(second)
    assert third.place == 1
    assert second.state is State.CANCELLED
    assert ended(second)[-1] == "cancelled"
    gate.go.set()
    assert ended(third)[-1] == "done"


def test_running_work_ends_at_its_next_step(queue: WorkQueue) -> None:
    gate = Gate()
    job = queue.submit("steer", "long", gate)
    assert gate.begun.wait(10)
    queue.cancel(job)
    assert ended(job)[-1] == "cancelled"
    assert ended(queue.submit("steer", "next", nothing))[-1] == "done"


def test_errors_are_told_and_the_line_goes_on(queue: WorkQueue, caplog: pytest.LogCaptureFixture) -> None:
    def user_error(job: Job) -> dict[str, Any]:
        raise NotFoundError("There is no such feature.", hint="Choose another.")

    def mistake(job: Job) -> dict[str, Any]:
        raise ZeroDivisionError("secret detail")

    first, second = queue.submit("steer", "a", user_error), queue.submit("steer", "b", mistake)
    assert ended(first)[-1] == ended(second)[-1] == "failed"
    assert first.error == {"message": "There is no such feature.", "hint": "Choose another."}
    assert second.error is not None
    assert "secret" not in str(second.error)
    assert "secret detail" in caplog.text
    assert ended(queue.submit("steer", "c", nothing))[-1] == "done"


def test_a_full_line_says_so(queue: WorkQueue) -> None:
    gate = Gate()
    queue.submit("steer", "first", gate)
    assert gate.begun.wait(10)
    waiting = [queue.submit("steer", f"{number}", nothing) for number in range(MOST_WAITING)]
    with pytest.raises(QueueFullError) as found:
        queue.submit("steer", "one more", nothing)
    assert found.value.http_status == 429
    queue.cancel(waiting[0])
    queue.submit("steer", "there is room again", nothing)
    gate.go.set()


def test_progress_is_kept_and_a_cancelled_stage_stops(queue: WorkQueue) -> None:
    def run(job: Job) -> dict[str, Any]:
        with job.stage("Scoring", "items") as update:
            update(3, 10)
            job.cancel.set()
            update(4, 10)
        raise AssertionError("it went on")

    job = queue.submit("audit", "audit", run)
    assert ended(job) == ["place", "started", "progress", "progress", "cancelled"]
    assert job.progress == {"title": "Scoring", "unit": "items", "done": 3, "total": 10}


def test_closing_ends_everything() -> None:
    queue, gate = WorkQueue(), Gate()
    jobs = [queue.submit("steer", "runs", gate), queue.submit("steer", "waits", nothing)]
    assert gate.begun.wait(10)
    queue.close()
    assert [job.state for job in jobs] == [State.CANCELLED, State.CANCELLED]


def test_old_work_is_forgotten(queue: WorkQueue) -> None:
    for _ in range(150):
        ended(queue.submit("steer", "x", nothing))
    assert len(queue.jobs()) <= 101
    assert queue.job("steer-1") is None


def test_many_listen_to_one(queue: WorkQueue) -> None:
    gate = Gate()
    job = queue.submit("steer", "first", gate)

    async def listen() -> list[list[str]]:
        async def one() -> list[str]:
            return [event.name async for event in job.events() if event is not None]

        listening = [asyncio.create_task(one()) for _ in range(100)]
        await asyncio.sleep(0.05)
        gate.go.set()
        return await asyncio.gather(*listening)

    heard = asyncio.run(asyncio.wait_for(listen(), 30))
    assert all(one[-1] == "done" for one in heard)
