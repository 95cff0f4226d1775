"""Where work runs: the plan of its shards, and the executor of this machine.

Shards are planned before any work, from the work alone. Results come back in shard order, so merging them
gives the same bytes whether one worker did everything or many shared it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

from onesense.errors import ConfigurationError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD_PER_WORKER = 2


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """A contiguous part of the work: items `start` to `stop - 1`."""

    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def plan_shards(total_items: int, items_per_shard: int) -> list[Shard]:
    """Cut `total_items` items into shards of `items_per_shard`; the last may be shorter.

    Raises:
        ConfigurationError: A negative total, or fewer than one item a shard.
    """
    if total_items < 0 or items_per_shard < 1:
        raise ConfigurationError(
            f"Cannot cut {total_items} items into shards of {items_per_shard}.",
            hint="Give at least one item a shard.",
        )
    starts = range(0, total_items, items_per_shard)
    return [
        Shard(index, start, min(start + items_per_shard, total_items)) for index, start in enumerate(starts)
    ]


class Executor(Protocol):
    """Runs functions over parts of the work, here or elsewhere.

    Attributes:
        in_process: Whether functions run in this process, so that they share its memory and can call back.
    """

    in_process: bool

    def map_shards(self, function: Callable[[Item], Result], shards: Iterable[Item]) -> Iterator[Result]:
        """Results of `function` for each shard, in the order of `shards`; the first error ends it.

        At most a few shards per worker are done or in work ahead of the one that is taken, so memory stays
        bounded however many there are.
        """
        ...

    def evaluate(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Results of `function` for each item, in the order of `items`; the first error ends it."""
        ...

    def close(self) -> None:
        """Give back whatever is held. Calling it twice is fine."""
        ...


class LocalExecutor:
    """Runs work in this process, one shard after another, or on threads that share model and memory.

    An error is not tried again: here, the same input would fail the same way. It stops the work at once, and
    shards that have not begun never do.

    Args:
        workers: Threads. With 1, everything runs in the calling thread, shard by shard as results are taken.

    Raises:
        ConfigurationError: Fewer than one worker.
    """

    in_process = True

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise ConfigurationError(f"Cannot work with {workers} workers.", hint="Give 1 or more.")
        self.workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def map_shards(self, function: Callable[[Item], Result], shards: Iterable[Item]) -> Iterator[Result]:
        """See ``Executor``."""
        return self._map(function, shards)

    def evaluate(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Results of `function` for each item, in the order of `items`."""
        return list(self._map(function, items))

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        if self.workers == 1:
            yield from map(function, items)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="onesense")
        waiting: deque[Future[Result]] = deque()
        remaining = iter(items)
        try:
            while True:
                _fill(waiting, self._pool, function, remaining, self.workers * _AHEAD_PER_WORKER)
                if not waiting:
                    return
                yield _first(waiting)
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)


def _fill(
    waiting: deque[Future[Result]],
    pool: ThreadPoolExecutor,
    function: Callable[[Item], Result],
    remaining: Iterator[Item],
    limit: int,
) -> None:
    while len(waiting) < limit:
        try:
            item = next(remaining)
        except StopIteration:
            return
        waiting.append(pool.submit(function, item))


def _first(waiting: deque[Future[Result]]) -> Result:
    """Result of the first of those waiting, unless a later one fails before it is there."""
    while True:
        for future in waiting:
            if future.done() and future.exception() is not None:
                return future.result()
        if waiting[0].done():
            return waiting.popleft().result()
        wait([future for future in waiting if not future.done()], return_when=FIRST_COMPLETED)
