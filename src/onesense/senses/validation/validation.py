"""All that was validated, as one result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from onesense.senses.validation.growing_widths import GrowingWidths
from onesense.senses.validation.planted import PlantedTest
from onesense.senses.validation.union_test import UnionTest


@dataclass(frozen=True, slots=True)
class Validation:
    """What was validated; None for a test that was not made.

    Attributes:
        union: Unions of two features against single ones.
        planted: Planted against measured number of senses.
        widths: Senses of dictionaries of growing width.
    """

    union: UnionTest | None = None
    planted: PlantedTest | None = None
    widths: GrowingWidths | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values; NaN is None."""
        found: dict[str, Any] = _plain(asdict(self))
        if self.union is not None:
            found["union"]["ahead"] = [
                {
                    "share": share,
                    "best_cheap": self.union.best_cheap(share).name,
                    "ahead": self.union.ahead(share),
                }
                for share in dict.fromkeys(one.share for one in self.union.scores)
            ]
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
