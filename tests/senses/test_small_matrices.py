"""Many small matrices at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from onesense.senses.small_matrices import in_threads


def test_results_come_in_the_order_of_the_parts() -> None:
    assert list(in_threads(lambda one: one * one, range(40))) == [one * one for one in range(40)]
    assert list(in_threads(len, [])) == []


def test_parts_are_taken_only_as_they_are_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    taken = 0

    def parts() -> Iterator[int]:
        nonlocal taken
        for one in range(50):
            taken += 1
            yield one

    for number, _ in enumerate(in_threads(lambda one: one, parts()), start=1):
        assert taken <= number + 4


def test_linear_algebra_within_runs_on_one_thread_and_outside_as_before() -> None:
    before = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    def inside(_: int) -> list[int]:
        np.linalg.eigh(np.eye(8))
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    assert all(found == [1] * len(before) for found in in_threads(inside, range(4)))
    assert [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"] == before


def test_an_error_is_that_of_the_function_and_no_thread_stays() -> None:
    def fails(one: int) -> int:
        if one == 3:
            raise ValueError("three")
        return one

    before = threading.active_count()
    with pytest.raises(ValueError, match="three"):
        list(in_threads(fails, range(10)))
    assert threading.active_count() == before
