"""A Ray cluster of two nodes for one trial, and the answers that a command gets from it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

NODES = 2
_WINDOWS, _ITEMS, _FEATURES = 8, 32, 4
_ROOT = Path(__file__).parents[2]
_MOST_SECONDS = 180.0
_SECONDS_TO_END = 60.0
# Those of the operating system, whatever a child puts in their place.
_read, _write = os.read, os.write


@dataclass(frozen=True)
class OnRay:
    """What a command does on a cluster that loses nothing, its work cut into small parts.

    Attributes:
        files: Of a run in one process, as in ``Undisturbed``.
        seconds: How long it takes.
        calls: How many calls of it change files.
        answers: How many answers it gets from workers; one of each is that it is there.
    """

    files: Mapping[str, str]
    seconds: float
    calls: int
    answers: int


class Nodes:
    """A cluster, kept by a process of its own until ``close``.

    Args:
        log: Where that process writes what went wrong.

    Attributes:
        address: For ``--ray``.
    """

    def __init__(self, log: Path) -> None:
        with log.open("wb") as target:
            # Ctrl-C is for whoever closes it.
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fault_trials.node_keeper"],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=target,
                start_new_session=True,
            )
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._asked, self._told = self._keeper.stdin.fileno(), self._keeper.stdout.fileno()
        self._log = log
        try:
            self.address = self._answer()
        except BaseException:
            self.close()
            raise

    def lose(self, number: int) -> None:
        """Kill a node's processes; a forked child may call it, too."""
        self._ask(str(number))

    def lost(self) -> int:
        """How many nodes were lost so far."""
        return int(self._ask("count"))

    def close(self) -> None:
        """End the cluster."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        try:
            self._keeper.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._keeper.terminate()
            self._keeper.wait()
        finally:
            assert self._keeper.stdout is not None
            self._keeper.stdout.close()

    def _ask(self, words: str) -> str:
        _write(self._asked, f"{words}\n".encode())
        return self._answer()

    def _answer(self) -> str:
        ready, _, _ = select.select([self._told], [], [], _MOST_SECONDS)
        answer = _read(self._told, 4096).decode() if ready else ""
        if not answer:
            raise RuntimeError(f"The cluster of a trial does not answer: {self._log.read_text()[-2000:]}")
        return answer.strip()


def may_use_ray() -> bool:
    """Whether Ray is installed."""
    return util.find_spec("ray") is not None


def cut_small() -> None:
    """Cut the work into small parts, as a text of a few pages is one part otherwise, and a single worker does it."""
    from onesense.bias import measuring
    from onesense.explain import lexical_scores, negative_pool
    from onesense.features import contexts
    from onesense.senses import activity

    whole = contexts.plan_tables
    contexts.plan_tables = lambda windows, *, per_shard, n_ids: whole(  # noqa: ARG005
        windows, per_shard=_WINDOWS, n_ids=n_ids
    )
    activity._WINDOWS_PER_SHARD = _WINDOWS
    measuring.ITEMS_PER_SHARD = _ITEMS
    negative_pool._WINDOWS_AT_ONCE = _WINDOWS
    lexical_scores._FEATURES_AT_ONCE = _FEATURES


def at_answer(number: int, action: Callable[[], None]) -> None:
    """Call `action` right before the answer of a worker with this number, counted from 1, is fetched."""

    def count(so_far: int) -> None:
        if so_far == number:
            action()

    _watch(count)


def tell_answers(path: str) -> None:
    """Keep the number of answers so far in a file."""
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.pwrite(target, b"0", 0)
    _watch(lambda so_far: os.pwrite(target, b"%d" % so_far, 0))


def _watch(count: Callable[[int], object]) -> None:
    from onesense.engine.ray_cluster import Cluster

    fetch, so_far = Cluster.fetch, 0

    def counted(cluster: Cluster, reference: Any) -> Any:
        nonlocal so_far
        so_far += 1
        count(so_far)
        return fetch(cluster, reference)

    Cluster.fetch = counted  # type: ignore[method-assign]
