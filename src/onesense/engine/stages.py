"""Who is told how far the work is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Stages(Protocol):
    """Told what is going on; the command line draws progress bars from it."""

    def stage(self, title: str, unit: str) -> AbstractContextManager[Callable[[int, int | None], None]]:
        """A stage begins; what it yields is called with work done and work wanted."""
        ...


class Silent:
    """Tells nobody."""

    def stage(self, title: str, unit: str) -> AbstractContextManager[Callable[[int, int | None], None]]:  # noqa: ARG002
        """See ``Stages``."""
        return nullcontext(lambda _done, _total: None)
