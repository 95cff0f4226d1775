"""Why a feature was found: the tokens that hold the words, where the table does not show them anyway."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from onesense.store.feature_columns import ShownFeature, lists_of
from onesense.web.feature_tables import UNITS, FeatureTable, reading

_WORD = re.compile(r"(\w+)(\*?)")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a search in small letters.

    Attributes:
        whole: That must stand by themselves.
        beginnings: That a word may begin with.
    """

    whole: frozenset[str]
    beginnings: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.whole or self.beginnings)

    def among(self, tokens: Iterable[str]) -> list[str]:
        """The tokens that hold one of the words."""
        return [token for token in tokens if any(map(self._holds, re.findall(r"\w+", token.casefold())))]

    def _holds(self, word: str) -> bool:
        return word in self.whole or word.startswith(self.beginnings)


def words_of(search: str) -> Words:
    """The words of what somebody typed into the search."""
    found = [(word.casefold(), star) for word, star in _WORD.findall(search) if word != "OR"]
    return Words(
        frozenset(word for word, star in found if not star), tuple(word for word, star in found if star)
    )


def also_found(
    words: Words, feature: ShownFeature, senses: Sequence[Sequence[str]], shown: int
) -> list[dict[str, Any]]:
    """Tokens that hold a word of the search and that a row does not show: each with where it stands.

    Args:
        words: Of the search.
        feature: The feature.
        senses: Tokens of each of its senses.
        shown: How many of the promoted tokens the row shows.
    """
    places = [
        ("also promotes", feature.promoted[shown:]),
        ("suppresses", feature.suppressed),
        *((f"sense {number}", tokens) for number, tokens in enumerate(senses, start=1)),
    ]
    found = [(where, words.among(tokens)) for where, tokens in places] if words else []
    return [{"where": where, "tokens": tokens} for where, tokens in found if tokens]


def read_sense_tokens(table: FeatureTable, features: Sequence[int]) -> dict[int, list[list[str]]]:
    """The tokens of each sense of these features."""
    if table.senses is None or not features:
        return {}
    with reading(table.senses) as catalog:
        found = catalog.rows(
            "SELECT unit, tokens FROM senses WHERE unit_set = ?"
            f" AND unit IN ({', '.join('?' * len(features))})",
            (UNITS, *features),
        )
        tokens = lists_of(catalog, [row[1] for row in found])
    return {int(row[0]): senses for row, senses in zip(found, tokens, strict=True)}
