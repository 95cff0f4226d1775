"""Connections to the catalogue: one that writes, and any number that look on."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

from onesense.errors import FormatError, NotFoundError, StorageError
from onesense.store.disk_errors import disk_errors
from onesense.store.migrations import check_complete, check_known, migrate
from onesense.store.sqlite_errors import primary_code

_BUSY_SECONDS = 10.0
_MAGIC = b"SQLite format 3\0"


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection that may write; the file and its tables are made where they are missing.

    Each step of the preparation has its own connection: SQLite keeps a counter in the file that advances
    from what a connection saw when it opened, so a resumed run would otherwise count differently.

    Raises:
        FormatError: The file is damaged or of another program.
        IncompatibleError: A newer onesense wrote it.
        StorageError: It cannot be written.
        sqlite3.Error: Anything else that SQLite reports.
    """
    with disk_errors(path):
        if path.exists():
            _check_beginning(path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
    for prepare in (_use_write_ahead_log, migrate):
        connection = _connect(path, "rwc")
        try:
            check_known(connection, str(path))
            prepare(connection)
        finally:
            connection.close()
    connection = _connect(path, "rw")
    try:
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that never writes, also where nothing can be created beside the file (a read-only disk).

    Raises:
        NotFoundError: There is no such file.
        FormatError: The file is damaged or no catalogue.
        IncompatibleError: A newer onesense wrote it, or an older one whose tables are incomplete.
        StorageError: It cannot be read.
        sqlite3.Error: Anything else that SQLite reports.
    """
    with disk_errors(path, action="read"):
        if not path.exists():
            raise NotFoundError(
                f"There is no catalogue {path}.", hint="Run `onesense extract` into that folder first."
            )
        _check_beginning(path)
    connection = _connect(path, "ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if primary_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        if path.with_name(f"{path.name}-wal").exists():
            raise StorageError(
                f"Cannot read {path}: it has unfinished writes, and its folder is read-only.",
                hint="Open it once where it can be written to.",
            ) from error
        connection = _connect(path, "ro", immutable=True)
    except BaseException:
        connection.close()
        raise
    try:
        check_known(connection, str(path))
        check_complete(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")


def _check_beginning(path: Path) -> None:
    """SQLite takes a very short file for an empty database, and would write over it."""
    with path.open("rb") as file:
        beginning = file.read(len(_MAGIC))
    if beginning and beginning != _MAGIC:
        raise FormatError(f"{path} is not a catalogue.", hint="Delete it and run the command again.")


class _Connection(sqlite3.Connection):
    """Ends its statements when it is closed: else their locks stay for as long as an error's traceback holds them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """See ``sqlite3.Connection.execute``; the cursor is closed with the connection."""
        cursor = self.cursor()
        self._cursors.add(cursor)
        return cursor.execute(*arguments)

    def close(self) -> None:
        """Close the connection and all its cursors."""
        for one in list(self._cursors):
            one.close()
        super().close()


def _connect(path: Path, mode: str, *, immutable: bool = False) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}{'&immutable=1' if immutable else ''}"
    return sqlite3.connect(
        address,
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
    )
