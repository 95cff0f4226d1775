"""The tables of features that stay in memory, each built anew when the files behind it have changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onesense.errors import IncompatibleError, NotFoundError, OnesenseError, StorageError
from onesense.store.catalog import Catalog
from onesense.store.feature_columns import lists_of, read_columns
from onesense.web.feature_index import FeatureIndex
from onesense.web.workspace import KnownRun

SENSES_COMMAND, DEBIAS_COMMAND = "senses measure", "debias"
UNITS = "features"
"""What the features are called among the units of a run that counted senses."""

_TABLES = 6
# While a command writes, what takes long to build takes at most this share of the time that goes by.
_SHARE_OF_TIME = 0.1
_QUICK_SECONDS = 0.25

_Stamp = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """The features of a run, with what other runs of the same dictionary know of them.

    Attributes:
        known: The run of ``onesense extract``.
        index: Its features.
        senses: The run that counted senses; None where there is none.
        effects: The debias run that measured what features add to “she” against “he”; None where there is none.
    """

    known: KnownRun
    index: FeatureIndex
    senses: KnownRun | None
    effects: KnownRun | None


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    table: FeatureTable
    stamp: _Stamp
    names: tuple[str, ...]
    at: float
    seconds: float


class FeatureTables:
    """Builds each table once, and again when a catalogue behind it was written to. May be asked by any thread."""

    def __init__(self) -> None:
        self._built: dict[Path, _Built] = {}
        self._locks: dict[Path, threading.Lock] = {}
        self._lock = threading.Lock()

    def table(self, known: KnownRun, runs: Sequence[KnownRun]) -> FeatureTable:
        """The table of a run.

        While a command writes, a table that takes long to build may be a little behind.

        Args:
            known: A run of ``onesense extract``.
            runs: Every run, for what others know of the same dictionary.

        Raises:
            NotFoundError: The run has no features, or not any more.
            FormatError: Its catalogue is damaged.
        """
        senses, effects = _counted(known, runs), _measured(known, runs)
        paths = [one.open().catalog_path for one in (known, senses, effects) if one is not None]
        with self._lock:
            lock = self._locks.setdefault(paths[0], threading.Lock())
        with lock:
            stamp, names = tuple(map(_stamp, paths)), tuple(map(str, paths))
            there = self._built.get(paths[0])
            if there is not None and there.names == names and not _outdated(there, stamp):
                return there.table
            start = time.monotonic()
            table = FeatureTable(known, _index(known, senses, effects), senses, effects)
            now = time.monotonic()
            with self._lock:
                self._built.pop(paths[0], None)
                while len(self._built) >= _TABLES:
                    del self._built[next(iter(self._built))]
                self._built[paths[0]] = _Built(table, stamp, names, now, now - start)
            return table


@contextmanager
def reading(known: KnownRun) -> Iterator[Catalog]:
    """The catalogue of a run, to look at; what was moved or rewritten meanwhile is said so.

    Raises:
        NotFoundError: The run has no catalogue, or not any more.
        IncompatibleError: It cannot be read just now.
        FormatError: It is damaged.
    """
    path = known.open().catalog_path
    if not path.exists():
        raise NotFoundError(
            f"The run {known.path.name} has no features yet.",
            hint="Wait until `onesense extract` has written them, then load the page again.",
        )
    try:
        with Catalog(path, read_only=True) as catalog:
            yield catalog
    except StorageError as error:
        if not path.exists():
            raise NotFoundError(
                f"The run {known.path.name} is not there any more.", hint="It was moved or deleted."
            ) from error
        raise IncompatibleError(
            f"The run {known.path.name} cannot be read just now: {error.message}", hint=error.hint
        ) from error


def _index(known: KnownRun, senses: KnownRun | None, effects: KnownRun | None) -> FeatureIndex:
    with reading(known) as catalog:
        columns = read_columns(catalog)
    counted: list[tuple[Any, ...]] = []
    tokens: list[list[list[str]]] = []
    measured: list[tuple[Any, ...]] = []
    if senses is not None:
        with reading(senses) as catalog:
            counted = catalog.rows("SELECT unit, number, tokens FROM senses WHERE unit_set = ?", (UNITS,))
            tokens = lists_of(catalog, [one for _, _, one in counted])
    if effects is not None:
        with reading(effects) as catalog:
            measured = catalog.rows(
                "SELECT feature, bias FROM candidates WHERE hook_point = ? AND bias IS NOT NULL",
                (known.fact("hook_point"),),
            )
    return FeatureIndex(
        columns,
        {unit: number for unit, number, _ in counted if number is not None},
        {row[0]: " ".join(map(" ".join, senses)) for row, senses in zip(counted, tokens, strict=True)},
        dict(measured),
    )


def _counted(known: KnownRun, runs: Sequence[KnownRun]) -> KnownRun | None:
    """The latest run that counted the senses of this dictionary's features."""
    fingerprint = known.dictionary_fingerprint
    return _latest(
        one
        for one in runs
        if fingerprint and one.command == SENSES_COMMAND and one.dictionary_fingerprint == fingerprint
    )


def _measured(known: KnownRun, runs: Sequence[KnownRun]) -> KnownRun | None:
    """The latest debias run whose candidates come from this dictionary."""
    fingerprint, hook_point = known.dictionary_fingerprint, known.fact("hook_point")

    return _latest(
        one
        for one in runs
        if fingerprint and one.command == DEBIAS_COMMAND and one.dictionary_at(hook_point) == fingerprint
    )


def _latest(runs: Iterator[KnownRun]) -> KnownRun | None:
    """The run whose catalogue was written last; those without one do not count."""
    times = {}
    for one in runs:
        try:
            times[one.id] = (one.open().catalog_path.stat().st_mtime_ns, one)
        except (OSError, OnesenseError):
            continue
    return max(times.values(), key=lambda found: found[0])[1] if times else None


def _outdated(built: _Built, stamp: _Stamp) -> bool:
    if built.stamp == stamp:
        return False
    replaced = [old[:2] != new[:2] for old, new in zip(built.stamp, stamp, strict=True)]
    if any(replaced) or built.seconds < _QUICK_SECONDS:
        return True
    return time.monotonic() - built.at > built.seconds / _SHARE_OF_TIME


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a catalogue is written to: the file, and its write-ahead log."""
    found: list[int] = []
    for one in (path, path.with_name(f"{path.name}-wal")):
        try:
            status = os.stat(one)
        except OSError:
            status = None
        empty = status is None or (one != path and status.st_size == 0)  # a reader makes an empty log
        found += [0] * 4 if status is None or empty else [
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        ]  # fmt: skip
    return tuple(found)
