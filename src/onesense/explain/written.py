"""Explanations and scores on their way into the catalogue, some at a time, so that a killed run loses little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from onesense.store.catalog import Catalog

Row = TypeVar("Row")

_TOGETHER = 32


class Written(Generic[Row]):
    """Writes rows some at a time, and the rest when it is left, whatever the reason.

    Args:
        catalog: Where to.
        write: Writes rows in one transaction.
        together: Rows of a transaction.

    Attributes:
        count: Rows written or waiting.
    """

    def __init__(
        self,
        catalog: Catalog,
        write: Callable[[Catalog, Sequence[Row]], None],
        *,
        together: int = _TOGETHER,
    ) -> None:
        self.count = 0
        self._catalog, self._write, self._together = catalog, write, together
        self._waiting: list[Row] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows; write when there are enough.

        Raises:
            StorageError: The disk is full; rows written before are kept.
        """
        self._waiting.extend(rows)
        self.count += len(rows)
        if len(self._waiting) >= self._together:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._write(self._catalog, waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
