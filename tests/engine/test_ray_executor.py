"""Work on a Ray cluster: the same results in the same order, whatever becomes of the machines."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onesense.engine.choose import open_executor
from onesense.engine.executor import LocalExecutor, Shard, plan_shards
from onesense.engine.ray_executor import RayExecutor
from onesense.errors import ConfigurationError, ExecutionError, NumericalError, StorageError


class Squares:
    """Says how a shard was done, and where."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, shard: Shard) -> tuple[int, int]:
        (self._folder / f"{shard.index}-{os.getpid()}").touch()
        time.sleep(0.02 * (shard.index % 3))
        return shard.index, sum(number**2 for number in range(shard.start, shard.stop))


def test_results_are_those_of_one_process_in_the_same_order(executor: RayExecutor, tmp_path: Path) -> None:
    shards = plan_shards(1000, 37)
    assert list(executor.map_shards(Squares(tmp_path), shards)) == list(
        LocalExecutor().map_shards(Squares(tmp_path), shards)
    )
    workers = {path.name.split("-")[1] for path in tmp_path.iterdir()} - {str(os.getpid())}
    assert len(workers) == 2


class _Dies:
    """Kills the worker that does a part, the first time or every time."""

    def __init__(self, folder: Path, part: int, *, always: bool) -> None:
        self._folder, self._part, self._always = folder, part, always

    def __call__(self, number: int) -> int:
        tried = self._folder / f"{number}.{os.getpid()}"
        first = not any(self._folder.glob(f"{number}.*"))
        tried.touch()
        if number == self._part and (first or self._always):
            os.kill(os.getpid(), signal.SIGKILL)
        return number * 10


def test_a_worker_that_dies_costs_its_part_only(executor: RayExecutor, tmp_path: Path) -> None:
    found = list(executor.map_shards(_Dies(tmp_path, 3, always=False), range(8)))
    assert found == [number * 10 for number in range(8)]
    tries = {number: len(list(tmp_path.glob(f"{number}.*"))) for number in range(8)}
    assert tries == {number: 2 if number == 3 else 1 for number in range(8)}


def test_a_part_that_kills_every_worker_ends_the_work(executor: RayExecutor, tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match="Part 2 of the work ended 3 workers"):
        list(executor.map_shards(_Dies(tmp_path, 2, always=True), range(4)))
    assert len(list(tmp_path.glob("2.*"))) == 3


class _Refuses:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, number: int) -> int:
        (self._folder / f"{number}.{time.monotonic_ns()}").touch()
        if number == 1:
            raise NumericalError("NaN in part 1.", hint="Mend it.")
        time.sleep(0.2)
        return number


def test_an_error_of_the_work_ends_it_at_once_and_is_tried_once(
    executor: RayExecutor, tmp_path: Path
) -> None:
    with pytest.raises(NumericalError, match=r"NaN in part 1\.") as raised:
        list(executor.map_shards(_Refuses(tmp_path), range(50)))
    assert raised.value.hint == "Mend it."
    assert len(list(tmp_path.glob("1.*"))) == 1
    assert len(list(tmp_path.iterdir())) < 10


def test_an_error_that_is_none_of_ours_ends_it_too(executor: RayExecutor) -> None:
    with pytest.raises(ZeroDivisionError):
        list(executor.map_shards(lambda number: 1 // number, [1, 0, 2]))


def test_arrays_go_through_the_storage_and_leave_nothing_there(cluster: Any, tmp_path: Path) -> None:
    def column(number: int) -> dict[str, Any]:
        return {"column": np.full(5, number, dtype=np.float64)}

    with closing(RayExecutor("auto", threads=1, storage=f"file://{tmp_path}/shared")) as executor:
        found = list(executor.map_shards(column, range(6)))
    assert [float(one["column"][0]) for one in found] == [0, 1, 2, 3, 4, 5]
    assert not [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]


def test_a_storage_that_machines_do_not_reach_is_named(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = f"{tmp_path}/file/below"
    with (
        closing(RayExecutor("auto", threads=1, storage=place)) as executor,
        pytest.raises(StorageError, match="cannot be written to"),
    ):
        list(executor.map_shards(lambda number: {"x": np.zeros(1)}, range(2)))


def test_a_worker_that_no_machine_has_room_for_is_refused(cluster: Any) -> None:
    with (
        closing(RayExecutor("auto", threads=64)) as executor,
        pytest.raises(ExecutionError, match="64 free cores"),
    ):
        list(executor.map_shards(str, range(2)))


def test_a_machine_that_is_lost_costs_its_parts_and_one_that_comes_is_used(
    cluster: Any, executor: RayExecutor, tmp_path: Path
) -> None:
    lost = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    found = []
    for number, result in enumerate(executor.map_shards(Squares(tmp_path), plan_shards(600, 10))):
        found.append(result)
        if number == 10:
            cluster.remove_node(lost, allow_graceful=False)
    assert found == list(LocalExecutor().map_shards(Squares(tmp_path), plan_shards(600, 10)))


def test_without_an_address_the_work_stays_here() -> None:
    assert isinstance(open_executor(None), LocalExecutor)


def test_ray_that_is_missing_or_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onesense.engine.ray_cluster.metadata.version", lambda name: "2.51.1")
    with pytest.raises(ConfigurationError, match="too old"):
        RayExecutor("auto")


def test_an_address_where_nobody_answers_is_told_before_ray_tries_for_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was asked"))
    with pytest.raises(ConfigurationError, match=f"no Ray cluster at `127.0.0.1:{port}`"):
        RayExecutor(f"127.0.0.1:{port}")


def test_results_of_work_that_ends_early_do_not_stay_in_the_storage(cluster: Any, tmp_path: Path) -> None:
    def column(number: int) -> dict[str, Any]:
        if number == 3:
            raise NumericalError("NaN in part 3.")
        return {"column": np.zeros(5)}

    place = tmp_path / "shared"
    with (
        closing(RayExecutor("auto", threads=1, storage=str(place))) as executor,
        pytest.raises(NumericalError),
    ):
        list(executor.map_shards(column, range(8)))
    assert not [path for path in place.rglob("*") if path.is_file()]
