"""Senses of units in the catalogue of their run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from onesense.store.catalog import Catalog, check_range, check_sort, well_formed
from onesense.store.incoming_rows import unchanged
from onesense.store.sqlite_errors import stored_list


@dataclass(frozen=True, slots=True)
class SenseRow:
    """The senses of a unit. A number that is unknown or NaN is None.

    Attributes:
        unit_set: Such as "features" or "neurons".
        unit: Its number there.
        number: Senses.
        effective: Effective number of senses: exp of the entropy of activation over senses.
        several: How much its contexts look like more than one sense, 0 to 1.
        separation: Mean cosine within senses minus between them.
        token_entropy: Of the tokens at its contexts, nats.
        density: Share of positions at which it fires.
        documents: Documents among its contexts.
        tokens: For each sense, largest first, the tokens that carry most of it.
    """

    unit_set: str
    unit: int
    number: int | None = None
    effective: float | None = None
    several: float | None = None
    separation: float | None = None
    token_entropy: float | None = None
    density: float | None = None
    documents: int = 0
    tokens: Sequence[Sequence[str]] = ()


_COLUMNS = tuple(field.name for field in fields(SenseRow))
SORT_COLUMNS = _COLUMNS[1:-1]
"""What units can be sorted by."""


def replace_senses(catalog: Catalog, rows: Iterable[SenseRow]) -> None:
    """Put these in place of all there are, in one transaction; where they are there already, no byte changes.

    Raises:
        StorageError: The disk is full; the old rows are still there.
    """
    values = sorted((_stored(row) for row in rows), key=lambda value: value[:2])
    with catalog.transaction() as connection:
        if unchanged(connection, "senses", _COLUMNS, values):
            return
        connection.execute("DELETE FROM senses")
        marks = ", ".join("?" * len(_COLUMNS))
        connection.executemany(f"INSERT INTO senses ({', '.join(_COLUMNS)}) VALUES ({marks})", values)


def read_senses(
    catalog: Catalog,
    sort: str = "several",
    descending: bool = True,
    *,
    unit_set: str | None = None,
    unit: int | None = None,
    least: int = 0,
    tokens: str = "",
    offset: int = 0,
    limit: int = 50,
) -> list[SenseRow]:
    """Units in the order of a number; unknown values last, ties by set and unit.

    Args:
        catalog: The catalogue.
        sort: One of ``SORT_COLUMNS``.
        descending: The largest first.
        unit_set: Only units of this set.
        unit: Only those with this number.
        least: Only those with so many senses or more.
        tokens: Only those that have this in a token of a sense; ASCII letters of either case are alike.
        offset: How many to pass over.
        limit: How many at most.

    Raises:
        ConfigurationError: Nothing that units can be sorted by, or a negative offset or limit.
    """
    check_sort(sort, SORT_COLUMNS)
    check_range("offset", offset)
    check_range("limit", limit)
    where, values = _filter(unit_set, unit, least, tokens)
    found = catalog.rows(
        f"SELECT {', '.join(_COLUMNS)} FROM senses WHERE {where}"
        f" ORDER BY {sort} IS NULL, {sort} {'DESC' if descending else 'ASC'}, unit_set, unit LIMIT ? OFFSET ?",
        (*values, limit, offset),
    )
    return [_read(row) for row in found]


def count_senses(catalog: Catalog, *, unit_set: str | None = None, least: int = 0, tokens: str = "") -> int:
    """How many units ``read_senses`` finds without a limit."""
    where, values = _filter(unit_set, None, least, tokens)
    return int(catalog.rows(f"SELECT count(*) FROM senses WHERE {where}", values)[0][0])


def sense_numbers(catalog: Catalog) -> dict[str, dict[int | None, int]]:
    """How many units of each set have how many senses; None where nobody knows."""
    found: dict[str, dict[int | None, int]] = {}
    for unit_set, number, units in catalog.rows(
        "SELECT unit_set, number, count(*) FROM senses GROUP BY unit_set, number ORDER BY unit_set, number"
    ):
        found.setdefault(str(unit_set), {})[number] = int(units)
    return found


def _filter(
    unit_set: str | None, unit: int | None, least: int, tokens: str
) -> tuple[str, tuple[str | int, ...]]:
    """A condition without any text from outside in it, and the values of its question marks."""
    parts: list[tuple[str, tuple[str | int, ...]]] = [("coalesce(number, 0) >= ?", (least,))]
    if unit_set is not None:
        parts.append(("unit_set = ?", (unit_set,)))
    if unit is not None:
        parts.append(("unit = ?", (unit,)))
    if tokens:
        # The text as JSON spells it leaves few rows, whose tokens are then looked at one by one.
        spelled = json.dumps(tokens)[1:-1]
        parts.append(
            (
                "tokens LIKE ? ESCAPE '!' AND EXISTS (SELECT 1 FROM json_each(senses.tokens) AS sense,"
                " json_each(sense.value) AS token WHERE token.value LIKE ? ESCAPE '!')",
                (_within(spelled), _within(tokens)),
            )
        )
    return " AND ".join(condition for condition, _ in parts), tuple(
        value for _, values in parts for value in values
    )


def _within(text: str) -> str:
    """A pattern of LIKE that finds the text anywhere."""
    literal = re.sub("([!%_])", r"!\1", well_formed(text))
    return f"%{literal}%"


def _stored(row: SenseRow) -> tuple[Any, ...]:
    values = [getattr(row, name) for name in _COLUMNS[:-1]]
    finite = [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]
    return (*finite, json.dumps([list(tokens) for tokens in row.tokens]))


def _read(values: Sequence[Any]) -> SenseRow:
    named = dict(zip(_COLUMNS, values, strict=True))
    named["tokens"] = tuple(
        tuple(tokens) if isinstance(tokens, list) else (str(tokens),)
        for tokens in stored_list(named["tokens"])
    )
    return SenseRow(**named)
