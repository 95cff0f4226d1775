"""What the page of features shows beside its rows: heads that sort, filters that are set, pages to turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onesense.web.feature_query import FALLING, FeatureQuery
from onesense.web.feature_tables import FeatureTable
from onesense.web.pages import number

_HEADS = (
    ("feature", "Feature", "", "Number of the latent in the dictionary"),
    ("explanation", "Explanation", "", "What the feature is said to fire on"),
    ("tokens", "Promoted tokens", "", "Tokens whose logit the decoder row raises most, strongest first"),
    ("density", "Density", "share of tokens", "Share of the text's tokens on which it fires"),
    ("max_activation", "Max activation", "", "Largest activation in the text"),
    ("senses", "Senses", "", "How many groups its contexts fall into"),
    (
        "effect",
        "Gender effect",
        "nats, she/he",
        "Spread of what it adds to “she” against “he” in neutral prompts",
    ),
    ("score", "Score", "0.5 is chance", "Balanced accuracy of a judge that has only the explanation"),
)


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column.

    Attributes:
        name: As in addresses.
        title: For people.
        unit: Below the title.
        about: One line about it.
        address: Query that sorts by it, or turns the order round.
        sorted: ``ascending`` or ``descending`` where the rows are sorted by it, else empty.
        missing: Command that fills the column, where it is empty.
    """

    name: str
    title: str
    unit: str
    about: str
    address: str
    sorted: str
    missing: str


def columns_drawn(query: FeatureQuery, table: FeatureTable) -> list[Column]:
    """The heads of the columns."""
    missing = {
        "senses": "" if table.senses else f"onesense senses measure {table.known.fact('model')}",
        "effect": "" if table.effects else f"onesense debias {table.known.fact('model')}",
    }
    drawn = []
    for name, title, unit, about in _HEADS:
        current = query.sorted_by == name
        falling = not query.descending if current else name in FALLING
        order = "" if falling == (name in FALLING) else ("desc" if falling else "asc")
        sort = "" if name == "feature" and not query.q.strip() else name
        drawn.append(
            Column(
                name,
                title,
                unit,
                about,
                query.string(sort=sort, order=order, page=1),
                ("descending" if query.descending else "ascending") if current else "",
                missing.get(name, ""),
            )
        )
    return drawn


def filters_drawn(query: FeatureQuery) -> list[dict[str, str]]:
    """The filters that are set, each with the query without it."""
    texts: tuple[tuple[str, str], ...] = (
        ("density_from", "density from {} %"),
        ("density_to", "density to {} %"),
        ("max_from", "max activation from {}"),
        ("max_to", "max activation to {}"),
        ("senses_from", "senses from {}"),
        ("effect_from", "gender effect from {} nats"),
        ("score_from", "score from {}"),
        ("explained", "explained"),
        ("gender", "promotes a gender word"),
    )
    drawn = []
    for name, text in texts:
        value: Any = getattr(query, name)
        if name in query.filters:
            without = query.string(**{name: False if value is True else None}, page=1)
            drawn.append({"text": text.format(number(float(value))), "address": without})
    return drawn


def pages_drawn(query: FeatureQuery, page: int, last: int) -> list[dict[str, Any]]:
    """Where one can turn to from a page, by name; those that lead nowhere have no address."""
    turns = (
        ("First", "first", 1),
        ("Previous", "previous", page - 1),
        ("Next", "next", page + 1),
        ("Last", "last", last),
    )
    return [
        {
            "title": title,
            "name": name,
            "address": query.string(page=to) if to != page and 1 <= to <= last else None,
        }
        for title, name, to in turns
    ]
