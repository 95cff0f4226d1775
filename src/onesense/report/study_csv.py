"""Every unit of a study as a table that a spreadsheet opens and cannot be made to execute."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from onesense.errors import FormatError, NotFoundError
from onesense.report.items_csv import FORMULA_START, spreadsheet_text
from onesense.store.atomic import write_bytes
from onesense.store.disk_errors import disk_errors
from onesense.study.units import COLUMNS, UnitTable

HEADER = ("set", "unit", *COLUMNS)
_HINT = "It should be the units.csv that `onesense study` wrote; run it again if the file is damaged."


def write_units(path: Path | str, tables: Sequence[UnitTable]) -> str:
    """Write a row for each unit: its set, its number in it, then ``COLUMNS``; an empty cell where nobody knows.

    Numbers are written with all their digits. A name that a spreadsheet would take for a formula gets an
    apostrophe before it.

    Returns:
        SHA-256 of the file.

    Raises:
        StorageError: The file could not be written.
    """
    return write_bytes(path, _lines(tables))


def read_units(path: Path | str) -> list[UnitTable]:
    """Read what ``write_units`` wrote.

    Raises:
        NotFoundError: There is no such file.
        FormatError: It is no such table; the message names the line.
        StorageError: It cannot be read.
    """
    path = Path(path)
    with disk_errors(path, action="read"):
        if not path.exists():
            raise NotFoundError(f"There is no file {path}.", hint=_HINT)
        content = path.read_bytes()
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))
    except (UnicodeDecodeError, csv.Error):
        raise FormatError(f"{path} is not a table of units.", hint=_HINT) from None
    if not rows or tuple(rows[0]) != HEADER:
        raise FormatError(
            f"{path} is not a table of units: its first line should name {', '.join(HEADER)}.", hint=_HINT
        )
    sets: dict[str, list[list[float]]] = {}
    for number, row in enumerate(rows[1:], start=2):
        units = sets.setdefault(_name(row[0]) if row else "", [])
        units.append(_numbers(row, len(units), where=f"{path}, line {number}"))
    return [
        UnitTable(name, **dict(zip(COLUMNS, np.array(units, dtype=np.float64).T.copy(), strict=True)))
        for name, units in sets.items()
    ]


def _lines(tables: Sequence[UnitTable]) -> Iterator[bytes]:
    yield (",".join(HEADER) + "\n").encode()
    for table in tables:
        name = spreadsheet_text(table.name)
        columns = np.stack([getattr(table, column) for column in COLUMNS], axis=1).tolist()
        for unit, numbers in enumerate(columns):
            cells = [name, str(unit), *("" if math.isnan(value) else f"{value!r}" for value in numbers)]
            yield (",".join(cells) + "\n").encode("utf-8", errors="backslashreplace")


def _numbers(row: Sequence[str], unit: int, *, where: str) -> list[float]:
    if len(row) != len(HEADER) or row[1] != str(unit):
        raise FormatError(
            f"{where}: the row of unit {unit} with {len(HEADER)} cells should be here.", hint=_HINT
        )
    try:
        return [math.nan if not cell else float(cell) for cell in row[2:]]
    except ValueError:
        raise FormatError(f"{where} holds something that is no number.", hint=_HINT) from None


def _name(cell: str) -> str:
    """The name without the apostrophe that ``write_units`` put before it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA_START) else cell
