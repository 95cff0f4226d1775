"""What is asked of the table of features: a search, filters, an order and a page, all in the address."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query

from onesense.errors import ConfigurationError
from onesense.store.catalog import check_sort

MATCH = "match"
RISING = ("feature", "explanation", "tokens")
FALLING = ("density", "max_activation", "senses", "effect", "score")
SORTS = (MATCH, *RISING, *FALLING)
"""What the table can be sorted by; the best match, and the largest number, come first."""

PAGE_SIZES = (50, 100, 200)
_MOST_CHARACTERS = 1000
_LONGEST_NUMBER = 40
_LAST_PAGE = 10**9
_INTEGER = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FeatureQuery:
    """What is asked of the table. None asks nothing.

    Attributes:
        q: Words in explanations, tokens and senses; see ``match_expression``.
        density_from: Fires on at least so many percent of the tokens.
        density_to: Fires on at most so many percent.
        max_from: Its largest activation is at least this.
        max_to: Its largest activation is at most this.
        senses_from: Has at least so many senses.
        effect_from: Moves “she” against “he” by at least so many nats.
        score_from: Its explanation scores at least this.
        explained: Only where an explanation came back well.
        gender: Only where a gender word is among the promoted tokens.
        sort: One of ``SORTS``; empty for the best match where there is a search, else by number.
        order: ``asc`` or ``desc``; empty for the order that the column is of most use in.
        page: From 1.
        per: Rows on a page.
    """

    q: str = ""
    density_from: float | None = None
    density_to: float | None = None
    max_from: float | None = None
    max_to: float | None = None
    senses_from: float | None = None
    effect_from: float | None = None
    score_from: float | None = None
    explained: bool = False
    gender: bool = False
    sort: str = ""
    order: str = ""
    page: int = 1
    per: int = PAGE_SIZES[0]

    @property
    def sorted_by(self) -> str:
        """What the rows are sorted by."""
        if self.sort and (self.sort != MATCH or self.q.strip()):
            return self.sort
        return MATCH if self.q.strip() else RISING[0]

    @property
    def descending(self) -> bool:
        """Whether the largest comes first."""
        return self.order == "desc" if self.order else self.sorted_by in FALLING

    @property
    def filters(self) -> list[str]:
        """Names of the filters that are set."""
        unset = (None, False)
        return [name for name in _FILTERS if not any(getattr(self, name) is value for value in unset)]

    @property
    def number(self) -> int | None:
        """The feature that is asked for by its number alone."""
        asked = self.q.strip()
        return int(asked) if _INTEGER.fullmatch(asked) else None

    def string(self, **changes: Any) -> str:
        """The query as it stands in an address, with some values changed; what asks nothing is left out."""
        changed = replace(self, **changes)
        return urlencode(
            {
                field.name: _spelled(getattr(changed, field.name))
                for field in fields(self)
                if getattr(changed, field.name) != field.default
            },
            errors="replace",
        )


_FILTERS = (
    "density_from", "density_to", "max_from", "max_to", "senses_from", "effect_from", "score_from",
    "explained", "gender",
)  # fmt: skip

_Number = Annotated[str, Query(max_length=_LONGEST_NUMBER)]


def asked_query(
    q: Annotated[str, Query(max_length=_MOST_CHARACTERS)] = "",
    density_from: _Number = "",
    density_to: _Number = "",
    max_from: _Number = "",
    max_to: _Number = "",
    senses_from: _Number = "",
    effect_from: _Number = "",
    score_from: _Number = "",
    explained: _Number = "",
    gender: _Number = "",
    sort: _Number = "",
    order: _Number = "",
    page: _Number = "",
    per: _Number = "",
) -> FeatureQuery:
    """The query of an address. A form without JavaScript sends every field, so an empty one asks nothing.

    Raises:
        ConfigurationError: A number that is none, or an order that there is not.
    """
    if sort:
        check_sort(sort, SORTS)
    if order not in ("", "asc", "desc"):
        raise ConfigurationError(f"There is no order {order!r}.", hint="Choose asc or desc.")
    return FeatureQuery(
        q=q,
        density_from=_number("The least density", density_from),
        density_to=_number("The largest density", density_to),
        max_from=_number("The least activation", max_from),
        max_to=_number("The largest activation", max_to),
        senses_from=_number("The number of senses", senses_from),
        effect_from=_number("The gender effect", effect_from),
        score_from=_number("The score", score_from),
        explained=explained not in ("", "0"),
        gender=gender not in ("", "0"),
        sort=sort,
        order=order,
        page=max(1, _whole("The page", page, 1)),
        per=_page_size(_whole("The number of rows", per, PAGE_SIZES[0])),
    )


AskedQuery = Annotated[FeatureQuery, Depends(asked_query)]
"""Annotation of a page's parameter that gives it the query of the address."""


def _number(name: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text.strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigurationError(f"{name} cannot be {text!r}.", hint="Give a number, such as 0.5.")
    return value


def _whole(name: str, text: str, default: int) -> int:
    value = _number(name, text)
    return default if value is None else int(max(0, min(value, _LAST_PAGE)))


def _page_size(wanted: int) -> int:
    """The smallest of the sizes that holds so many rows, or the largest."""
    return next((size for size in PAGE_SIZES if size >= wanted), PAGE_SIZES[-1])


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "1"
    return f"{value:g}" if isinstance(value, float) else str(value)
