"""What is read of runs stays in memory until their files change."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path

from onesense.features.context_store import STATISTICS, Contexts
from onesense.features.lens import LensStatistics
from onesense.senses.activity import Activity
from onesense.senses.measure import open_measured
from onesense.senses.sense_table import SenseTable
from onesense.store.run_folder import RUN_FILE, RunFolder
from onesense.web.workspace import KnownRun

_MOST = 6
_LENS = "lens"
_SENSES = "senses/features"


class OpenedRun:
    """A run whose results are read when they are first asked for.

    Args:
        run: The run.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    @cached_property
    def contexts(self) -> Contexts | None:
        """Where features fire; None where the run did not look, or is not done."""
        return Contexts.open(self._run) if self._run.has_result(STATISTICS) else None

    @cached_property
    def lens(self) -> LensStatistics | None:
        """What features promote; None where that is not known."""
        if not self._run.has_result(_LENS):
            return None
        return LensStatistics.from_tensors(self._run.read_result(_LENS))

    @cached_property
    def measured(self) -> tuple[Activity, dict[str, SenseTable]]:
        """Text and senses of a run of ``onesense senses measure``; a lot of memory.

        Raises:
            NotFoundError: It holds none yet.
        """
        return open_measured(self._run)


class OpenedRuns:
    """Keeps the runs that were looked at last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[list[tuple[int, int] | None], OpenedRun]] = {}

    def get(self, known: KnownRun) -> OpenedRun:
        """The results of a run, read anew where its files changed.

        Raises:
            NotFoundError: It cannot be read.
        """
        run = known.open()
        state = [
            _state(path)
            for path in (run.path / RUN_FILE, *map(run.result_path, (STATISTICS, _LENS, _SENSES)))
        ]
        with self._lock:
            there = self._kept.pop(known.id, None)
            if there is None or there[0] != state:
                there = (state, OpenedRun(run))
            while len(self._kept) >= _MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[known.id] = there
        return there[1]


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
