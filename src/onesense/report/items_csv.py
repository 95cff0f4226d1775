"""What was measured of each item, as a table that a spreadsheet opens and cannot be made to execute."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onesense.bias.benchmark import Item
from onesense.bias.metric import Floats
from onesense.bias.scoring.requests import Request
from onesense.errors import ConfigurationError, FormatError, IncompatibleError, NotFoundError
from onesense.store.atomic import write_bytes
from onesense.store.disk_errors import disk_errors

BETWEEN_TEXTS = " || "
_AGAIN = "Run `onesense audit` again with the same --run-folder: it writes the tables anew."

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FULL_WIDTH = ("\uff1d", "\uff0b", "\uff0d", "\uff20")  # = + - @ as East Asian spreadsheets read them
FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\n", *_FULL_WIDTH)


def write_items(
    path: Path | str,
    items: Sequence[Item],
    tables: Sequence[Mapping[str, Floats]],
    labels: Sequence[str],
) -> str:
    """Write a row for each item: its id, cluster and texts, then each column for each variant.

    Fields are quoted as in RFC 4180, lines end in a line feed, the text is UTF-8. A text that a spreadsheet
    would take for a formula gets an apostrophe before it; NaN is an empty cell.

    Args:
        path: Where the file shall appear.
        items: The items, in the order of the columns.
        tables: The columns of each variant, each [items].
        labels: What each variant is called in the header, such as ``before`` and ``after``.

    Returns:
        SHA-256 of the file.

    Raises:
        ConfigurationError: Not one label for each variant, or two alike.
        IncompatibleError: A column has another length than the items.
        StorageError: The file could not be written.
    """
    if len(labels) != len(tables) or len(set(labels)) != len(labels):
        raise ConfigurationError(
            f"Each of the {len(tables)} variants needs a label of its own, not {list(labels)!r}."
        )
    for table, label in zip(tables, labels, strict=True):
        for name, column in table.items():
            if column.shape != (len(items),):
                raise IncompatibleError(
                    f"Column {name} [{label}] has shape {column.shape} for {len(items)} items."
                )
    return write_bytes(path, _lines(items, tables, labels))


@dataclass(frozen=True, slots=True)
class ItemRow:
    """What was measured of one item.

    Attributes:
        id: Of the item.
        cluster: Items about one thing share it.
        texts: What the model read.
        numbers: By column; None where there was none.
    """

    id: str
    cluster: str
    texts: tuple[str, ...]
    numbers: Mapping[str, float | None]


def read_items(path: Path | str) -> list[ItemRow]:
    """Read back what ``write_items`` wrote; columns are named ``<column> [<label>]``.

    Raises:
        NotFoundError: There is no such file.
        FormatError: It is no such table.
        StorageError: It cannot be read.
    """
    path = Path(path)
    with disk_errors(path, action="read"):
        there = path.is_file()
    if not there:
        raise NotFoundError(f"There is no table {path.name} of items.", hint=_AGAIN)
    with disk_errors(path, action="read"), path.open(encoding="utf-8", newline="") as file:
        try:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            if header[:3] != ["id", "cluster", "texts"]:
                raise FormatError(f"{path.name} is not a table of items.", hint=_AGAIN)
            return [_row(header[3:], cells) for cells in lines]
        except (csv.Error, UnicodeDecodeError, ValueError) as error:
            raise FormatError(f"The table {path.name} of items is damaged.", hint=_AGAIN) from error


def _row(names: Sequence[str], cells: Sequence[str]) -> ItemRow:
    identity, cluster, texts, *numbers = (_unguarded(cell) for cell in cells)
    found = {name: float(cell) if cell else None for name, cell in zip(names, numbers, strict=True)}
    return ItemRow(identity, cluster, tuple(texts.split(BETWEEN_TEXTS)), found)


def _unguarded(cell: str) -> str:
    """The text without the apostrophe that keeps a spreadsheet from executing it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA_START) else cell


def _lines(
    items: Sequence[Item], tables: Sequence[Mapping[str, Floats]], labels: Sequence[str]
) -> Iterator[bytes]:
    names = list(dict.fromkeys(name for table in tables for name in table))
    columns = [
        (f"{name} [{label}]", table[name])
        for name in names
        for table, label in zip(tables, labels, strict=True)
        if name in table
    ]
    yield _line(
        [spreadsheet_text(header) for header in ("id", "cluster", "texts", *(name for name, _ in columns))]
    )
    for index, item in enumerate(items):
        texts = BETWEEN_TEXTS.join(_request(request) for request in item.requests)
        numbers = [_number(float(column[index])) for _, column in columns]
        yield _line(
            [spreadsheet_text(item.id), spreadsheet_text(item.cluster), spreadsheet_text(texts), *numbers]
        )


def _line(cells: Sequence[str]) -> bytes:
    # half of a surrogate pair has no bytes in UTF-8
    return (",".join(cells) + "\n").encode("utf-8", errors="backslashreplace")


def _request(request: Request) -> str:
    if request.ids is not None:
        return f"<{len(request.ids)} token ids>"
    return f"{request.context}|{request.text}" if request.context else request.text


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def spreadsheet_text(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula, quoted where it must be."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if text.startswith(FORMULA_START) and not _NUMBER.fullmatch(text):
        text = "'" + text
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
