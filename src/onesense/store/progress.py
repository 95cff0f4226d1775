"""How far a command is, in a small file of its run folder, for those who look on.

The file is there only while the command holds the folder's lock, and no result depends on it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from onesense.store.lock import lock_holder

PROGRESS_NAME = ".progress"
_PAUSE_S = 1.0
_MOST_BYTES = 10_000

Update = Callable[[int, int | None], None]


class _Stages(Protocol):
    def stage(self, title: str, unit: str) -> AbstractContextManager[Update]: ...


class Progress(NamedTuple):
    """How far a command is.

    Attributes:
        process: Id of the process that writes to the folder.
        title: What it does now; empty where it does not say.
        unit: What is counted.
        done: How many are done.
        total: Of how many; None where nobody knows.
    """

    process: int
    title: str = ""
    unit: str = ""
    done: int = 0
    total: int | None = None


class RecordedStages:
    """Tells progress to somebody else, and to the run folder: each stage as it begins, then once a second at most.

    Args:
        stages: Told first.
        folder: The run folder.
    """

    def __init__(self, stages: _Stages, folder: Path | str) -> None:
        self._stages = stages
        self._path = Path(folder) / PROGRESS_NAME
        self._next = 0.0

    @contextmanager
    def stage(self, title: str, unit: str) -> Iterator[Update]:
        """See ``onesense.engine.stages.Stages``."""
        with self._stages.stage(title, unit) as tell:

            def update(done: int, total: int | None) -> None:
                tell(done, total)
                if time.monotonic() >= self._next:
                    self._write({"title": title, "unit": unit, "done": done, "total": total})

            self._write({"title": title, "unit": unit, "done": 0, "total": None})
            yield update

    def _write(self, values: dict[str, object]) -> None:
        self._next = time.monotonic() + _PAUSE_S
        if lock_holder(self._path.parent) != os.getpid():
            return
        temporary = self._path.with_name(f"{PROGRESS_NAME}.{os.getpid()}.tmp")
        with suppress(OSError):  # a full disk stops the results, not this
            temporary.write_text(json.dumps(values), encoding="ascii")
            temporary.replace(self._path)


def read_progress(folder: Path | str) -> Progress | None:
    """How far the command is that writes to a folder now; None where none does."""
    process = lock_holder(folder)
    if process is None:
        return None
    try:
        with (Path(folder) / PROGRESS_NAME).open("rb") as file:
            values = json.loads(file.read(_MOST_BYTES))
        return Progress(
            process,
            str(values["title"]),
            str(values["unit"]),
            int(values["done"]),
            None if values["total"] is None else int(values["total"]),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Progress(process)


def forget_progress(folder: Path) -> None:
    """Take the file away: nobody writes to the folder any more."""
    with suppress(OSError):
        for path in folder.glob(f"{PROGRESS_NAME}*"):
            path.unlink()
