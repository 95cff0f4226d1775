"""The items of a benchmark in an audit, those that changed most first."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onesense.bias.results import AuditResult, BenchmarkResult
from onesense.errors import ConfigurationError, NotFoundError
from onesense.report.audit_files import ITEMS
from onesense.report.items_csv import ItemRow, read_items
from onesense.web.run_reports import is_there, readable
from onesense.web.workspace import KnownRun

PAGE = 25
_COLUMN = re.compile(r"(?P<name>.*) \[(?P<label>before|after|value)\]", re.DOTALL)
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# What a reader looks for first: how far apart the texts are, then how sure, then the rest.
_TELLING = ("gap", "log_odds", "gap_summed", "margin", "kl", "surprise")
_ORDERS = ("change", "up", "down")


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Some items of a benchmark.

    Attributes:
        columns: What they can be sorted by.
        column: What they are sorted by; empty where nothing was measured.
        order: ``change``, ``up`` or ``down``.
        compared: Whether there is a before and an after.
        items: How many there are.
        page: Which page this is, from 1.
        pages: How many there are.
        rows: The items: id, cluster, texts, before, after and change.
    """

    columns: list[str]
    column: str
    order: str
    compared: bool
    items: int
    page: int
    pages: int
    rows: list[dict[str, Any]]


def benchmark_of(result: AuditResult, key: str) -> BenchmarkResult:
    """A benchmark of an audit by its key.

    Raises:
        NotFoundError: It measured no such benchmark.
    """
    for benchmark in result.benchmarks:
        if benchmark.key == key and _KEY.fullmatch(key):
            return benchmark
    raise NotFoundError("This audit measured no such benchmark.", hint="The audit lists those that it has.")


def items_path(known: KnownRun, key: str) -> Path:
    """The table of a benchmark's items; ``benchmark_of`` says which keys are safe."""
    return known.path / ITEMS / f"{key}.csv"


def has_items(known: KnownRun, key: str) -> bool:
    """Whether the table of a benchmark's items is there."""
    return bool(_KEY.fullmatch(key)) and is_there(items_path(known, key))


def item_page(known: KnownRun, key: str, *, sort: str, order: str, page: int) -> ItemPage:
    """Some items of a benchmark.

    Args:
        known: The run of the audit.
        key: The benchmark, one that the audit has.
        sort: A column; the most telling one where empty.
        order: ``change`` for the largest change first, ``up`` or ``down`` for what rose or fell most.
        page: Which page, from 1.

    Raises:
        ConfigurationError: No such column, or order.
        NotFoundError: There is no table of items, or no such page.
        FormatError: The table is damaged.
    """
    with readable(known):
        found = read_items(items_path(known, key))
    columns, compared = _columns(found)
    column = sort or next((one for one in _TELLING if one in columns), columns[0] if columns else "")
    if columns and column not in columns:
        raise ConfigurationError(
            "These items have no such column.", hint=f"Sort by one of: {', '.join(columns)}."
        )
    if order not in _ORDERS:
        raise ConfigurationError("There is no such order.", hint=f"Use one of: {', '.join(_ORDERS)}.")
    rows = [_row(one, column, compared=compared) for one in found]
    rows.sort(key=lambda row: _place(row["change"] if compared else row["before"], order))
    pages = max(1, math.ceil(len(rows) / PAGE))
    if not 1 <= page <= pages:
        raise NotFoundError(f"There is no page {page}.", hint=f"There are {pages}.")
    shown = rows[(page - 1) * PAGE : page * PAGE]
    return ItemPage(columns, column, order, compared, len(rows), page, pages, shown)


def _columns(found: Sequence[ItemRow]) -> tuple[list[str], bool]:
    """Columns that say something: of an audit that compares, those that changed for some item."""
    if not found:
        return [], False
    labels: dict[str, list[str]] = {}
    for header in found[0].numbers:
        match = _COLUMN.fullmatch(header)
        if match:
            labels.setdefault(match["name"], []).append(match["label"])
    compared = any("after" in one for one in labels.values())
    if not compared:
        return [name for name, one in labels.items() if "value" in one or "before" in one], False
    changed = [
        name
        for name, one in labels.items()
        if set(one) >= {"before", "after"}
        and any(row.numbers[f"{name} [before]"] != row.numbers[f"{name} [after]"] for row in found)
    ]
    return changed, True


def _row(item: ItemRow, column: str, *, compared: bool) -> dict[str, Any]:
    if compared:
        before, after = (item.numbers.get(f"{column} [{label}]") for label in ("before", "after"))
    else:
        value = item.numbers.get(f"{column} [value]")
        before, after = (item.numbers.get(f"{column} [before]") if value is None else value), None
    change = None if before is None or after is None else after - before
    return {
        "id": item.id,
        "cluster": item.cluster,
        "texts": list(item.texts),
        "before": before,
        "after": after,
        "change": change,
    }


def _place(value: float | None, order: str) -> tuple[bool, float]:
    """Where an item stands; those without a number last."""
    if value is None or math.isnan(value):
        return True, 0.0
    return False, {"change": -abs(value), "up": -value, "down": value}[order]
