"""Candidates of debias in the catalogue of their run: features of several hook points, with their evidence."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from onesense.store.sqlite_errors import stored_list

_TOKENS = ("promoted", "suppressed")


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A feature that may carry gender bias. A number that is unknown or NaN is None.

    Attributes:
        hook_point: Where its dictionary reads the model.
        feature: Its id there.
        bias: Standard deviation over neutral prompts of what it adds to “she” against “he”, nats.
        toward_women: Correlation of that with the model's own leaning.
        fact: What it adds to the margin of gender facts, nats.
        kl: KL divergence per token that turning it off would make, nats.
        density: Share of ordinary text at which it fires.
        swapped: Difference of its latent between texts about women and men, over their sum.
        gender_words: p of its tokens holding so many gender words by chance.
        factor: What the chosen recipe multiplies its latent by; None where it is not edited.
        without_spread: Spread that the recipe leaves without this edit, as a share of the unedited model's.
        promoted: Tokens that it promotes most.
        suppressed: Tokens that it suppresses most.
    """

    hook_point: str
    feature: int
    bias: float | None = None
    toward_women: float | None = None
    fact: float | None = None
    kl: float | None = None
    density: float | None = None
    swapped: float | None = None
    gender_words: float | None = None
    factor: float | None = None
    without_spread: float | None = None
    promoted: Sequence[str] = ()
    suppressed: Sequence[str] = ()


COLUMNS = tuple(field.name for field in fields(CandidateRow))
SORT_COLUMNS = COLUMNS[1 : -len(_TOKENS)]
"""What candidates can be sorted by: their numbers."""


def stored_candidate(row: CandidateRow) -> tuple[Any, ...]:
    """The row as SQLite holds it."""
    numbers = [_finite(getattr(row, name)) for name in SORT_COLUMNS[1:]]
    return (
        row.hook_point,
        int(row.feature),
        *numbers,
        *(json.dumps(list(getattr(row, name))) for name in _TOKENS),
    )


def read_candidate(values: Sequence[Any]) -> CandidateRow:
    """The row that SQLite gave, in the order of ``COLUMNS``."""
    named = dict(zip(COLUMNS, values, strict=True))
    for name in _TOKENS:
        named[name] = stored_list(named[name])
    return CandidateRow(**named)


def _finite(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)
