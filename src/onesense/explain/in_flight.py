"""Many questions at once, no more of them in memory than are asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

from onesense.errors import BudgetReachedError, EndpointError

Item = TypeVar("Item")
Result = TypeVar("Result")

_STOPS = (BudgetReachedError, EndpointError)


async def in_flight(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], *, most: int
) -> AsyncGenerator[Result, None]:
    """Do the work of every item, so many at once, and give results as they come, in any order.

    Items are taken only when there is room. Where a question can no longer be asked, no more items are taken, what
    is in flight is waited for and given, for it is paid, and the error is raised at the end. Any other error, or
    leaving early, cancels what is in flight.

    Args:
        items: What to work on; may be long or endless.
        work: The work of one item.
        most: Items at once.

    Yields:
        Results.

    Raises:
        EndpointError: The endpoint refuses for good, or is not there.
        BudgetReachedError: The budget is used up.
    """
    source = iter(items)
    running: set[asyncio.Future[Result]] = set()
    stopped: Exception | None = None
    try:
        while True:
            while stopped is None and len(running) < most and (taken := _next(source)):
                running.add(asyncio.ensure_future(work(taken[0])))
            if not running:
                break
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    yield task.result()
                elif isinstance(error, _STOPS):
                    stopped = stopped or error
                else:
                    raise error
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if stopped is not None:
        raise stopped


def _next(source: Iterator[Item]) -> tuple[Item] | None:
    for item in source:
        return (item,)
    return None
