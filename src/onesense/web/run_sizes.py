"""How large a run is, in words: features, tokens, benchmarks. Read from settings and headers, never from results."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onesense.errors import OnesenseError
from onesense.store.tensor_file import read_shapes
from onesense.web.workspace import KnownRun

_MOST_KEPT = 1000


class RunSizes:
    """Sizes of runs; a header is read again only where its file changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[tuple[int, int, int], int]] = {}

    def of(self, known: KnownRun) -> list[str]:
        """What there is how much of in a run, such as "4,608 features"; nothing where that cannot be told."""
        if known.run is None:
            return []
        values = known.run.configuration
        counted = {
            "extract": lambda: [
                _many(self._rows(known.path / "lens.safetensors", "mean"), "feature"),
                _at_most(values.get("contexts"), "max_tokens"),
            ],
            "interpret": lambda: [_many(values.get("features"), "feature")],
            "senses measure": lambda: [
                _many(self._rows(known.path / "senses" / "features.safetensors", "number"), "feature"),
                *_beside(values.get("others")),
                _at_most(values, "tokens"),
            ],
            "debias": lambda: [
                _many(_length(_dictionaries(known)), "dictionary", "dictionaries"),
                _many(_length(values.get("budgets")), "budget"),
            ],
            "audit": lambda: [
                _many(_length(values.get("benchmarks")), "benchmark"),
                "with a recipe" if _length(values.get("variants")) == 2 else "the model as it is",
            ],
            "study": lambda: [_many(_length(values.get("sets")), "set of units", "sets of units")],
        }.get(known.command)
        return [] if counted is None else [one for one in counted() if one]

    def _rows(self, path: Path, tensor: str) -> int | None:
        """Length of a tensor; None where the file is not there, or damaged."""
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            with self._lock:
                there = self._kept.get(path)
            if there is None or there[0] != stamp:
                there = (stamp, read_shapes(path)[tensor][0])
                with self._lock:
                    if len(self._kept) >= _MOST_KEPT:
                        self._kept.clear()
                    self._kept[path] = there
            return there[1]
        except (OSError, OnesenseError, KeyError, IndexError):
            return None


def _dictionaries(known: KnownRun) -> Any:
    inputs = {} if known.run is None else known.run.provenance.get("inputs")
    return inputs.get("dictionary") if isinstance(inputs, Mapping) else None


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list | Mapping) else None


def _many(count: Any, one: str, several: str = "") -> str:
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 1 << 62:
        return ""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def _at_most(values: Any, name: str) -> str:
    told = _many(values.get(name), "token") if isinstance(values, Mapping) else ""
    return told and f"{told} at most"


def _beside(others: Any) -> list[str]:
    return [str(one)[:40] for one in others[:4]] if isinstance(others, list) else []
