"""The table of features for spreadsheets, which cannot be made to execute anything in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from onesense.errors import OnesenseError
from onesense.report.items_csv import spreadsheet_text
from onesense.store.feature_columns import Ids, ShownFeature, read_shown
from onesense.web.feature_tables import FeatureTable, reading

MOST_ROWS = 100_000
"""Rows in one file."""

_COLUMNS = (
    "feature",
    "explanation",
    "status",
    "explained by",
    "score",
    "promoted tokens",
    "density",
    "max activation",
    "senses",
    "gender effect (nats)",
)
_BETWEEN_TOKENS = " | "
_AT_ONCE = 1000
_logger = logging.getLogger(__name__)


def table_csv(table: FeatureTable, features: Ids) -> Iterator[bytes]:
    """A head, then a row for each feature; the last line says so where rows are missing.

    Args:
        table: Where they are from.
        features: Their ids, in order.
    """
    yield _line(_COLUMNS)
    wanted = features[:MOST_ROWS]
    try:
        for start in range(0, len(wanted), _AT_ONCE):
            with reading(table.known) as catalog:
                shown = read_shown(catalog, wanted[start : start + _AT_ONCE].tolist())
            yield b"".join(_row(table, one) for one in shown)
    except OnesenseError as error:
        _logger.warning("A table of features broke off: %s", error.message)
        yield _line([f"The rest is missing: {error.message}"])
    if len(features) > MOST_ROWS:
        yield _line([f"The rest is missing: there are {len(features):,} rows, and a file has {MOST_ROWS:,}."])


def _row(table: FeatureTable, one: ShownFeature) -> bytes:
    index = table.index
    senses = index.value(index.senses, one.feature)
    return _line(
        [
            str(one.feature),
            one.explanation,
            one.status,
            one.method,
            _number(one.score),
            _BETWEEN_TOKENS.join(one.promoted),
            _number(one.density),
            _number(one.max_activation),
            "" if senses is None else str(int(senses)),
            _number(index.value(index.effect, one.feature)),
        ]
    )


def _line(cells: Sequence[str]) -> bytes:
    # half of a surrogate pair has no bytes in UTF-8
    return (",".join(map(spreadsheet_text, cells)) + "\n").encode("utf-8", errors="backslashreplace")


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)
