import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.engine.executor import LocalExecutor, Shard, plan_shards
from onesense.errors import ConfigurationError, NumericalError


@given(total=st.integers(0, 5000), size=st.integers(1, 700))
def test_the_plan_covers_every_item_once_in_order(total, size):
    shards = plan_shards(total, size)
    assert [item for shard in shards for item in range(shard.start, shard.stop)] == list(range(total))
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert all(len(shard) == size for shard in shards[:-1])
    assert all(1 <= len(shard) <= size for shard in shards)


@given(total=st.integers(0, 200), size=st.integers(1, 50), workers=st.integers(1, 4))
def test_merged_bits_do_not_depend_on_the_workers(total, size, workers):
    def work(shard):
        return sum(1 / (item + 1) for item in range(shard.start, shard.stop))

    def merged(executor):
        total_sum = 0.0
        for part in executor.map_shards(work, plan_shards(total, size)):
            total_sum += part
        return total_sum.hex()

    with LocalExecutor(workers) as many, LocalExecutor() as one:
        assert merged(many) == merged(one)


@pytest.mark.parametrize(("total", "size"), [(-1, 1), (1, 0), (1, -5)])
def test_impossible_plans(total, size):
    with pytest.raises(ConfigurationError):
        plan_shards(total, size)


@pytest.mark.parametrize("workers", [0, -1])
def test_impossible_workers(workers):
    with pytest.raises(ConfigurationError):
        LocalExecutor(workers)


def test_results_come_in_shard_order_when_they_finish_in_another():
    shards = plan_shards(3, 1)
    done = [threading.Event() for _ in shards]

    def work(shard):
        if shard.index + 1 < len(shards):
            assert done[shard.index + 1].wait(10)  # each waits for the next: they finish backwards
        done[shard.index].set()
        return shard.index

    with LocalExecutor(3) as executor:
        assert list(executor.map_shards(work, shards)) == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_stops_the_work_and_is_not_tried_again(workers):
    tried = []

    def work(shard):
        tried.append(shard.index)
        if shard.index == 2:
            raise NumericalError("NaN in shard 2")
        return shard.index

    with LocalExecutor(workers) as executor, pytest.raises(NumericalError, match="shard 2"):
        list(executor.map_shards(work, plan_shards(1000, 1)))
    assert tried.count(2) == 1
    assert len(tried) < 20


def test_an_error_does_not_wait_for_an_earlier_shard():
    stop = threading.Event()

    def work(shard):
        if shard.index == 1:
            raise NumericalError("at once")
        stop.wait(10)
        return shard.index

    results = LocalExecutor(2).map_shards(work, plan_shards(2, 1))
    releaser = threading.Timer(0.2, stop.set)
    releaser.start()
    with pytest.raises(NumericalError):
        next(results)


@pytest.mark.parametrize("workers", [1, 3])
def test_work_stays_a_bounded_stretch_ahead(workers):
    begun = []

    def work(shard):
        begun.append(shard.index)
        return shard.index

    with LocalExecutor(workers) as executor:
        results = executor.map_shards(work, plan_shards(1000, 1))
        for expected in range(5):
            assert next(results) == expected
            time.sleep(0.005)
            assert len(begun) <= expected + 1 + 2 * workers
        results.close()
        assert len(begun) < 30


def test_nothing_runs_before_a_result_is_taken():
    begun = []
    LocalExecutor().map_shards(begun.append, plan_shards(5, 1))
    assert begun == []


@pytest.mark.parametrize("workers", [1, 3])
def test_evaluate_keeps_the_order_of_any_iterable(workers):
    with LocalExecutor(workers) as executor:
        assert executor.evaluate(str, (n for n in range(50))) == [str(n) for n in range(50)]
        assert executor.evaluate(str, []) == []


def test_closing_twice_and_going_on():
    executor = LocalExecutor(2)
    executor.close()
    assert executor.evaluate(len, ["ab", "c"]) == [2, 1]
    executor.close()
    executor.close()


def test_shards_sort_by_index():
    assert sorted([Shard(1, 5, 9), Shard(0, 0, 5)])[0].index == 0
