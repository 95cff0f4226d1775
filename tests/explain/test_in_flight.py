"""Many questions at once: bounded, paid work kept, errors at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import BudgetReachedError, EndpointError
from onesense.explain.in_flight import in_flight


async def _all(items, work, most):
    return [result async for result in in_flight(items, work, most=most)]


@given(number=st.integers(0, 60), most=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_item_is_worked_on_once_and_never_more_at_once(number: int, most: int, seed: int) -> None:
    at_once, peak, taken = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(number):
            taken += 1
            assert taken - len(finished) <= most
            yield item

    finished: list[int] = []

    async def work(item: int) -> int:
        nonlocal at_once, peak
        at_once += 1
        peak = max(peak, at_once)
        for _ in range(1 + (item * 7 + seed) % 5):
            await asyncio.sleep(0)
        at_once -= 1
        finished.append(item)
        return item

    assert sorted(asyncio.run(_all(items(), work, most))) == list(range(number))
    assert peak == min(most, number)


@pytest.mark.parametrize("kind", [EndpointError, BudgetReachedError])
def test_what_is_in_flight_is_kept_when_no_more_can_be_asked(kind: type[Exception]) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    async def work(item: int) -> int:
        await asyncio.sleep(0.001 if item == 2 else 0.02)
        if item in (2, 3):
            raise kind(f"no more at {item}")
        return item

    found: list[int] = []

    async def gather() -> None:
        async for result in in_flight(items(), work, most=4):
            found.append(result)

    with pytest.raises(kind, match="no more at 2"):
        asyncio.run(gather())
    assert sorted(found) == [0, 1]
    assert taken == [0, 1, 2, 3]


def test_any_other_error_cancels_the_rest() -> None:
    cancelled: list[int] = []

    async def work(item: int) -> int:
        try:
            await asyncio.sleep(0.001 if item == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        asyncio.run(_all(range(5), work, 5))
    assert sorted(cancelled) == [1, 2, 3, 4]


def test_leaving_early_cancels_the_rest() -> None:
    cancelled: list[int] = []

    async def work(item: int) -> int:
        try:
            await asyncio.sleep(0 if item == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    async def first() -> int:
        results = in_flight(range(3), work, most=3)
        found = await anext(results)
        await results.aclose()
        return found

    assert asyncio.run(first()) == 0
    assert sorted(cancelled) == [1, 2]
