"""Many small matrices at once: a thread for each, instead of all threads for one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

Given = TypeVar("Given")
Found = TypeVar("Found")


def in_threads(function: Callable[[Given], Found], parts: Iterable[Given]) -> Iterator[Found]:
    """Apply a function to parts, in order, on all cores; linear algebra within it runs on one thread.

    Several threads for a matrix of 128 rows cost more than they save, and what comes out does not depend on how many
    there are. Parts are taken from the iterable one after the other, and only as many as are being worked on.

    Args:
        function: Of one part; most of its time is spent in numpy.
        parts: What to apply it to.
    """
    workers = os.cpu_count() or 1
    waiting: deque[Future[Found]] = deque()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers, "senses") as pool:
        for part in parts:
            waiting.append(pool.submit(function, part))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
