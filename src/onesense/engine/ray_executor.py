"""Where work runs: the machines of a Ray cluster.

One actor for each set of cores keeps the function, and with it model and dictionary, from part to part. Parts
come back in their order. What a lost machine had in work is done elsewhere; an error of the work itself would
come back everywhere and ends it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from onesense.engine.ray_cluster import LOCAL, Cluster
from onesense.engine.ray_worker import Answer, sent
from onesense.engine.shared_storage import SharedStorage, Stored
from onesense.errors import ExecutionError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD_PER_WORKER = 2
_LOOK_AGAIN_SECONDS = 2.0
_MOST_FAILED_STARTS = 8
_NOT_THERE = -1


@dataclass(slots=True)
class _Part:
    """A part of the work, and what became of it."""

    item: Any
    lost: int = 0
    answer: Answer | None = None


@dataclass(slots=True)
class _Line:
    """The parts that were begun and not yet taken, in their order."""

    items: Iterator[Any]
    parts: dict[int, _Part] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    taken: int = 0
    ended: bool = False

    def fill(self, most: int) -> None:
        """Take parts until so many are in the line."""
        while not self.ended and len(self.parts) < most:
            try:
                item = next(self.items)
            except StopIteration:
                self.ended = True
                return
            number = self.taken + len(self.parts)
            self.parts[number] = _Part(item)
            self.waiting.append(number)


class RayExecutor:
    """Runs work on a Ray cluster, or on one that it starts on this machine.

    Results are those of ``LocalExecutor``, in the same order. A function, the model in it and what it is given must
    be such that another process can have them: models and dictionaries go by address, never by weight.

    Args:
        address: ``local`` to start a cluster here, ``auto`` for one that runs here, or its address.
        threads: Cores of a worker; None for as many as torch uses here, so that sums are added in the same order.
        gpus: GPUs of a worker.
        attempts: How many workers may die over one part before the work ends.
        storage: Folder or fsspec URL that every machine reaches: arrays go there instead of through the cluster's
            memory.

    Raises:
        ConfigurationError: Ray is not installed, too old, or not reachable at the address.
    """

    in_process = False

    def __init__(
        self,
        address: str = LOCAL,
        *,
        threads: int | None = None,
        gpus: float = 0,
        attempts: int = 3,
        storage: str | None = None,
    ) -> None:
        self._storage = None if storage is None else SharedStorage(storage)
        self._cluster = Cluster(address, threads=threads, gpus=gpus)
        self._attempts = attempts
        self._failed_starts = 0
        # The part that each does, None for nothing, or that it is not there yet.
        self._workers: dict[Any, int | None] = {}

    def map_shards(self, function: Callable[[Item], Result], shards: Iterable[Item]) -> Iterator[Result]:
        """See ``Executor``.

        Raises:
            ExecutionError: A part killed the workers that tried it, or no machine has room for a worker.
            OnesenseError: What the function raised first, in whichever part.
        """
        sending = sent(function, self._storage)
        work = self._cluster.hand_out(sending)
        line, workers = _Line(iter(shards)), self._workers
        running: dict[Any, Any] = {}  # answer to come: actor
        looked = float("-inf")
        try:
            while True:
                line.fill(max(len(workers), 1) * _AHEAD_PER_WORKER)
                if not line.parts:
                    return
                if time.monotonic() - looked > _LOOK_AGAIN_SECONDS:
                    looked = time.monotonic()
                    self._hire(workers, running)
                _give(work, line, workers, running)
                self._collect(line, workers, running)
                while line.taken in line.parts and line.parts[line.taken].answer is not None:
                    answer = line.parts.pop(line.taken).answer
                    line.taken += 1
                    yield cast(Result, self._result(answer))
        finally:
            # Who still works on something does it for nobody; the others keep their model for the next call.
            busy = [worker for worker, part in workers.items() if part is not None]
            self._cluster.dismiss(busy)
            for worker in busy:
                del workers[worker]
            if self._storage is not None:
                self._storage.clear(sending.name)

    def evaluate(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """See ``Executor``."""
        return list(self.map_shards(function, items))

    def close(self) -> None:
        """Let the workers go and leave the cluster, and end it if it was started here."""
        self._cluster.dismiss(self._workers)
        self._workers.clear()
        self._cluster.close()

    def _hire(self, workers: dict[Any, int | None], running: dict[Any, Any]) -> None:
        """One worker for each set of cores, those of machines that came meanwhile too."""
        wanted = self._cluster.places()
        if wanted == 0 and not workers:
            raise ExecutionError(
                f"No machine of the cluster has {self._cluster.needs} for a worker.",
                hint="Ask for fewer cores (OMP_NUM_THREADS=1 onesense …), or add machines.",
            )
        for _ in range(wanted - len(workers)):
            worker = self._cluster.hire()
            workers[worker] = _NOT_THERE
            running[worker.ready.remote()] = worker

    def _collect(self, line: _Line, workers: dict[Any, int | None], running: dict[Any, Any]) -> None:
        """Wait for answers; parts of workers that are gone wait again, before those that came later."""
        for reference in self._cluster.wait(running, _LOOK_AGAIN_SECONDS):
            worker = running.pop(reference)
            number = workers[worker]
            answer, why = self._cluster.fetch(reference)
            if answer is not None and answer.error is not None:
                raise answer.error
            if answer is not None:
                workers[worker] = None
                if number is not None and number != _NOT_THERE:
                    line.parts[number].answer = answer
                continue
            del workers[worker]
            if number is None or number == _NOT_THERE:
                self._no_start(why)
                continue
            part = line.parts[number]
            part.lost += 1
            if part.lost >= self._attempts:
                raise ExecutionError(
                    f"Part {number} of the work ended {part.lost} workers that tried it: {why}",
                    hint="Most often memory ran out: use smaller batches, or machines with more of it. What is "
                    "done is kept; the same command goes on there.",
                )
            line.waiting = sorted([number, *line.waiting])

    def _no_start(self, why: str) -> None:
        """A worker ended before it was there: its machine is gone, or lacks something."""
        self._failed_starts += 1
        if self._failed_starts > _MOST_FAILED_STARTS:
            raise ExecutionError(
                f"Workers end as soon as they begin: {why}",
                hint="Every machine needs onesense in the Python that runs Ray, and memory for the model.",
            )

    def _result(self, answer: Answer | None) -> Any:
        if answer is not None and isinstance(answer.result, Stored) and self._storage is not None:
            return self._storage.get(answer.result)
        return None if answer is None else answer.result


def _give(work: Any, line: _Line, workers: dict[Any, int | None], running: dict[Any, Any]) -> None:
    """Parts that wait to workers that do."""
    for worker, part in workers.items():
        if part is None and line.waiting:
            number = line.waiting.pop(0)
            running[worker.run.remote(work, number, line.parts[number].item)] = worker
            workers[worker] = number
