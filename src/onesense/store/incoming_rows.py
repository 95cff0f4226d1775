"""Rows that are to take the place of a table, however many they are."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

Row = tuple[Any, ...]


class IncomingRows:
    """Rows in the order of their first column, as often as they are asked for; SQLite keeps them on disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __iter__(self) -> Iterator[Row]:
        for row in self._connection.execute("SELECT * FROM temp.incoming ORDER BY 1"):
            yield tuple(row)


@contextmanager
def incoming_rows(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], rows: Iterable[Row]
) -> Iterator[IncomingRows]:
    """Put rows aside, beside a table whose place they may take.

    Args:
        connection: In a transaction.
        table: The table.
        columns: Its columns, in the order of the values.
        rows: The rows, in any order.
    """
    names = ", ".join(columns)
    connection.execute(f"CREATE TEMP TABLE incoming AS SELECT {names} FROM {table} WHERE 0")
    try:
        connection.executemany(f"INSERT INTO temp.incoming VALUES ({', '.join('?' * len(columns))})", rows)
        yield IncomingRows(connection)
    finally:
        connection.execute("DROP TABLE IF EXISTS temp.incoming")


def unchanged(
    connection: sqlite3.Connection, table: str, columns: Sequence[str], values: Iterable[Row]
) -> bool:
    """Whether a table holds just these rows; notes their digest where it does not.

    Args:
        connection: In a transaction.
        table: The table.
        columns: Its columns, in the order of the values; the rows are in the order of the first ones.
        values: The rows; they are gone through more than once.
    """
    digest = _digest(values)
    noted = connection.execute("SELECT value FROM facts WHERE name = ?", (f"{table}_sha256",)).fetchone()
    if noted is not None and str(noted[0]) == digest:
        order = ", ".join(columns[:2])
        found = connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}")
        # the digest tells what was written; SQLite does not notice a bit that flips within a row
        if all(there == wanted for there, wanted in zip_longest(map(tuple, found), values)):
            return True
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (f"{table}_sha256", digest))
    return False


def _digest(values: Iterable[Row]) -> str:
    """SHA-256 of the rows as one list in JSON."""
    digest = hashlib.sha256(b"[")
    for number, value in enumerate(values):
        digest.update(b", " if number else b"")
        digest.update(json.dumps(value, allow_nan=False).encode("ascii"))
    digest.update(b"]")
    return digest.hexdigest()
