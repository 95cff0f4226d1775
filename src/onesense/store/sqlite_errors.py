"""What SQLite says, turned into what a user can do about it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onesense.errors import FormatError, LockedError, OnesenseError, StorageError
from onesense.store.disk_errors import free_bytes

_DAMAGED = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_CONSTRAINT}
)
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DISK = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_TOOBIG,
    }
)


def primary_code(error: sqlite3.Error) -> int | None:
    """The SQLite result code without its extension, where the error carries one."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Raise errors of onesense about the catalogue at `path` in place of SQLite's.

    Raises:
        FormatError: The file is damaged, or no database, or lacks what a catalogue has.
        LockedError: Another process writes to it.
        StorageError: Disk full, read-only, no permission.
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # our own mistake, not the file's
    except sqlite3.Error as error:
        # So is a constraint that has a name; without one it is a word index that contradicts itself.
        if isinstance(error, sqlite3.IntegrityError) and error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT:
            raise
        raise _translated(error, path) from error
    except UnicodeDecodeError as error:  # what SQLite would say of the file, in letters that the file spoils
        raise FormatError(f"{path} is damaged.", hint="Delete it and run the command again.") from error


def stored_list(text: Any) -> tuple[Any, ...]:
    """A list that a row holds as JSON.

    Raises:
        FormatError: It holds something else, as only damage can make it.
    """
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise FormatError(
            "A row of the run's catalogue is damaged.",
            hint="Delete catalog.sqlite in the run folder and run the command that made it again.",
        )
    return tuple(found)


def _translated(error: sqlite3.Error, path: Path) -> OnesenseError:
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        free = free_bytes(path.parent)
        room = "" if free is None else f" ({free:,} bytes are free)"
        return StorageError(
            f"Cannot write {path}: the disk is full{room}.",
            hint="Free some space there, or choose a folder on another disk.",
        )
    if code in _BUSY:
        return LockedError(
            f"{path} is being written to by another process.", hint="Wait until it ends, or stop it."
        )
    if code in _DISK:
        return StorageError(
            f"Cannot read or write {path}: {error}.",
            hint="Check that the folder exists and that you may write to it.",
        )
    kind = "is damaged" if code in _DAMAGED else "is not a catalogue as onesense writes it"
    return FormatError(f"{path} {kind}: {error}.", hint="Delete it and run the command again.")
