"""What is in a folder, and whether each file in it is whole."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.fault_trials.commands import produced
from onesense.errors import OnesenseError
from onesense.steer.recipe import read_recipe
from onesense.store.tensor_file import read_tensors

_STATE = (".lock", ".progress")
_SQLITE_COMPANIONS = ("-wal", "-shm", "-journal")
_DAMAGED = "damaged"

Snapshot = Mapping[str, str]


def snapshot(folder: Path) -> dict[str, str]:
    """SHA-256 of each result by relative path; of a database, that of what its tables hold."""
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in produced(folder)
        if not _is_state(path) and not is_temporary(path)
    }


def is_temporary(path: Path) -> bool:
    """Whether a name is one that nothing finished has."""
    return (
        path.name.endswith((".onesense-tmp", ".tmp")) or ".onesense-tmp/" in path.as_posix()
    )  # a temporary folder's files belong to it


def temporaries(folder: Path) -> list[str]:
    """What a finished command may not leave."""
    return [path.relative_to(folder).as_posix() for path in produced(folder) if is_temporary(path)]


def half_written(folder: Path, expected: Snapshot) -> list[str]:
    """Files that are neither those of an undisturbed run nor readable as what they are."""
    found = []
    for path in produced(folder):
        name = path.relative_to(folder).as_posix()
        if _is_state(path) or is_temporary(path) or expected.get(name) == _digest(path):
            continue
        if not _readable(path):
            found.append(name)
    return found


def refused_by_its_reader(path: Path) -> bool:
    """Whether whoever reads a result of onesense is told that it is damaged."""
    try:
        if path.suffix == ".safetensors":
            read_tensors(path, own=True)
        elif path.suffix == ".json":
            read_recipe(path)
        else:
            return False
    except OnesenseError:
        return True
    return False


def _readable(path: Path) -> bool:
    try:
        if path.suffix == ".safetensors":
            read_tensors(path)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".sqlite":
            return _digest(path) != _DAMAGED
        else:
            return False
    except (OnesenseError, ValueError):
        return False
    return True


def _is_state(path: Path) -> bool:
    return path.name.startswith(_STATE) or path.name.endswith(_SQLITE_COMPANIONS)


def _digest(path: Path) -> str:
    if path.suffix != ".sqlite":
        return hashlib.sha256(_timeless(path)).hexdigest()
    with tempfile.TemporaryDirectory() as apart:  # opening a database that was left in a hurry changes it
        for one in path.parent.glob(f"{path.name}*"):
            shutil.copy(one, apart)
        try:
            return hashlib.sha256(_dump(Path(apart) / path.name).encode("utf-8", "surrogatepass")).hexdigest()
        except (sqlite3.Error, ValueError):
            return _DAMAGED


def _timeless(path: Path) -> bytes:
    """The bytes of a file without the seconds that debias records of itself."""
    whole = path.read_bytes()
    if path.name == "seconds.json":
        return b""
    if path.name == "result.json":
        return re.sub(rb'"seconds": \{[^{}]*\}', b"", whole)
    if path.name == "report.html":
        return re.sub(rb"<dt><bdi>[^<]*</bdi></dt><dd>[\d.]+ s</dd>\s*", b"", whole)
    return whole


def _dump(path: Path) -> str:
    """Every table, row by row; the tables behind a full-text index differ in how they came about, not in sense."""
    connection = sqlite3.connect(path)
    try:
        if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
        tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name")
        made = dict(tables.fetchall())
        virtual = [name for name, sql in made.items() if str(sql).upper().startswith("CREATE VIRTUAL")]
        lines = []
        for name in made:
            if any(name.startswith(f"{one}_") for one in virtual):
                continue
            rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()
            lines.append(f"{name} {sorted(map(repr, rows))}")
        return "\n".join(lines)
    finally:
        connection.close()
