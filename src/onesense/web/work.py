"""One queue for everything that runs the model: its order, its progress, and how to end it.

A model answers one question at a time, so work waits in line; everybody sees the line and may leave it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, NamedTuple

from onesense.errors import OnesenseError

MOST_WAITING = 32
"""Pieces of work that may wait at once."""

_MOST_KEPT = 100
_SILENCE_S = 10.0
_PATIENCE_S = 10.0
_logger = logging.getLogger(__name__)


class Cancelled(Exception):
    """The work was ended by who asked for it."""


class QueueFullError(OnesenseError):
    """Too much work waits already."""

    http_status = 429


class State(StrEnum):
    """How far a piece of work is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Event(NamedTuple):
    """Something that is told of a piece of work.

    Attributes:
        name: ``place`` (in the line), ``started``, ``progress``, ``done``, ``failed``, ``cancelled``, or the
            work's own, such as ``piece``.
        data: JSON values.
    """

    name: str
    data: dict[str, Any]


class Job:
    """A piece of work in the queue; also the ``Stages`` that the work tells its progress to.

    Attributes:
        id: Its name in addresses.
        kind: ``steer``, ``sweep``, ``activations``, ``tune``, ``audit`` …
        title: What it is, for people.
        state: How far it is.
        place: Its place in the line, 1 is next; 0 once it runs.
        progress: The stage that runs: title, done, total, unit; empty before the first.
        result: What it came to, JSON values, once it is done.
        error: Message and hint, where it failed.
        cancel: Set once nobody wants it any more.
    """

    def __init__(self, number: int, kind: str, title: str, run: Callable[[Job], dict[str, Any]]) -> None:
        self.id = f"{kind}-{number}"
        self.kind, self.title = kind, title
        self.state = State.WAITING
        self.place = 0
        self.progress: dict[str, Any] = {}
        self.result: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.cancel = threading.Event()
        self._run = run
        self._events: list[Event] = []
        self._listeners: set[Callable[[], None]] = set()
        self._lock = threading.Lock()

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Tell an event to whoever listens, now or later."""
        with self._lock:
            self._events.append(Event(name, data))
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def check(self) -> None:
        """End here if nobody wants the work any more.

        Raises:
            Cancelled: Somebody ended it.
        """
        if self.cancel.is_set():
            raise Cancelled

    @contextmanager
    def stage(self, title: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
        """A stage of the work begins; see ``onesense.engine.stages.Stages``."""

        def update(done: int, total: int | None) -> None:
            self.check()
            self.progress = {"title": title, "unit": unit, "done": done, "total": total}
            self.tell("progress", dict(self.progress))

        update(0, None)
        yield update

    def describe(self) -> dict[str, Any]:
        """What the list of work shows."""
        return {
            "id": self.id,
            "kind": self.kind,
            "title": self.title,
            "state": str(self.state),
            "place": self.place,
            "progress": self.progress,
            "result": self.result,
            "error": self.error,
        }

    async def events(self) -> AsyncIterator[Event | None]:
        """Every event from the first to the last; None where nothing came for a while."""
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def listener() -> None:
            loop.call_soon_threadsafe(arrived.set)

        with self._lock:
            self._listeners.add(listener)
        try:
            sent = 0
            while True:
                arrived.clear()
                with self._lock:
                    fresh, ended = self._events[sent:], self.state.ended
                for event in fresh:
                    yield event
                sent += len(fresh)
                if ended:
                    return
                try:
                    await asyncio.wait_for(arrived.wait(), _SILENCE_S)
                except TimeoutError:
                    yield None
        finally:
            with self._lock:
                self._listeners.discard(listener)

    def perform(self) -> None:
        """Do it, in the thread that called; what goes wrong is told and not raised."""
        self.state, self.place = State.RUNNING, 0
        self.tell("started", {})
        try:
            self.check()
            self.result = self._run(self)
            self._end(State.DONE, self.result)
        except Cancelled:
            self._end(State.CANCELLED, {})
        except OnesenseError as error:
            self.error = {"message": error.message, "hint": error.hint}
            self._end(State.FAILED, self.error)
        except Exception:
            _logger.exception("Work %s failed", self.id)
            self.error = {
                "message": "Something went wrong that should not.",
                "hint": "The terminal of `onesense serve` says what; please report it.",
            }
            self._end(State.FAILED, self.error)

    def give_up(self) -> None:
        """End work that has not begun."""
        self._end(State.CANCELLED, {})

    def _end(self, state: State, data: dict[str, Any]) -> None:
        with self._lock:
            self.state = state
            self._events.append(Event(str(state), data))
            listeners = list(self._listeners)
        for listener in listeners:
            listener()


class WorkQueue:
    """Does work one piece after the other, in a thread of its own. Call :meth:`close` at the end."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="onesense-work", daemon=True)
        self._thread.start()

    def submit(self, kind: str, title: str, run: Callable[[Job], dict[str, Any]]) -> Job:
        """Put work at the end of the line.

        Args:
            kind: Such as ``steer``.
            title: What it is, for people.
            run: Does it: tells its events to the job, looks at ``job.cancel``, and returns JSON values.

        Raises:
            QueueFullError: ``MOST_WAITING`` wait already, or the line is closed.
        """
        with self._changed:
            if self._closed:
                raise QueueFullError("The server is ending.", hint="Start `onesense serve` again.")
            if len(self._waiting) >= MOST_WAITING:
                raise QueueFullError(
                    f"{MOST_WAITING} pieces of work wait already.", hint="Wait for one to end, or end one."
                )
            job = Job(next(self._numbers), kind, title, run)
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._forget()
            self._tell_places()
            self._changed.notify_all()
        return job

    def jobs(self) -> list[Job]:
        """All work that is known, the newest first."""
        with self._changed:
            return list(reversed(self._jobs.values()))

    def job(self, name: str) -> Job | None:
        """The work of this id; None where there is none, or no more."""
        with self._changed:
            return self._jobs.get(name)

    def cancel(self, job: Job) -> None:
        """End work: at once where it waits, at its next step where it runs."""
        with self._changed:
            job.cancel.set()
            waited = job in self._waiting
            if waited:
                self._waiting.remove(job)
                self._tell_places()
        if waited:
            job.give_up()

    def close(self) -> None:
        """End everything, and wait a little for the thread: a model that loads cannot be interrupted."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for job in self.jobs():
            if not job.state.ended:
                self.cancel(job)
        self._thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                job = self._waiting.pop(0)
                self._tell_places()
            job.perform()

    def _tell_places(self) -> None:
        for place, job in enumerate(self._waiting, start=1):
            if job.place != place:
                job.place = place
                job.tell("place", {"job": job.id, "place": place})

    def _forget(self) -> None:
        """Old work that has ended is dropped, so that a page that stays open for days does not grow."""
        ended = [name for name, job in self._jobs.items() if job.state.ended]
        for name in ended[: max(0, len(self._jobs) - _MOST_KEPT)]:
            del self._jobs[name]
