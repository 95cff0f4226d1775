"""The features of one run in memory: which of them a query asks for, and in which order."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesense.debias.describe import gender_words
from onesense.store.catalog import Catalog, match_expression, well_formed
from onesense.store.feature_columns import FeatureColumns, Ids, Numbers, search_features
from onesense.web.feature_query import MATCH, FeatureQuery

Places = NDArray[np.int64]

_SEARCHES_KEPT = 32
_LAST_WORD = re.compile(r"[^\s\"*]+$")


class Found(NamedTuple):
    """What a query found.

    Attributes:
        features: Ids in order.
        widened: Whether nothing holds the words, so that words which begin with the last of them count.
    """

    features: Ids
    widened: bool = False


class _Hits(NamedTuple):
    places: Places
    widened: bool


class FeatureIndex:
    """Columns of numbers, orders and searches of one run. May be asked by any thread.

    Args:
        columns: The features.
        senses: Number of senses by feature; None where nobody counted them.
        sense_tokens: Texts of the tokens of the senses, by feature.
        effects: What features add to “she” against “he”, by feature; None where nobody measured it.
    """

    def __init__(
        self,
        columns: FeatureColumns,
        senses: Mapping[int, int] | None = None,
        sense_tokens: Mapping[int, str] | None = None,
        effects: Mapping[int, float] | None = None,
    ) -> None:
        self._columns = columns
        self.feature = columns.feature
        self.senses, self.effect = self._by_feature(senses or {}), self._by_feature(effects or {})
        self._gendered = _gendered(columns.promoted)
        self._sense_texts = _SenseTexts(sense_tokens or {})
        self._order = lru_cache(None)(self._ordered)
        self._kept: dict[str, _Hits] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.feature)

    def __contains__(self, feature: int) -> bool:
        return self._place(feature) is not None

    def find(self, query: FeatureQuery, catalog: Catalog) -> Found:
        """The features that a query asks for, in its order.

        Args:
            query: The query.
            catalog: The run's catalogue, for the search.

        Raises:
            StorageError, FormatError: See ``sqlite_errors``.
        """
        mask = self._mask(query)
        widened = False
        places = None
        if query.q.strip():
            places, widened = self._hits(query.q, catalog)
            asked = np.zeros(len(mask), np.bool_)
            asked[places] = True
            mask &= asked
        if query.sorted_by == MATCH and places is not None:
            ordered = places[::-1] if query.descending else places
        else:
            ordered = self._order(query.sorted_by, query.descending)
        first = self._place(query.number)
        if first is not None and mask[first]:
            ordered = np.concatenate([[first], ordered[ordered != first]])
        return Found(self.feature[ordered[mask[ordered]]], widened)

    def value(self, column: Numbers, feature: int) -> float | None:
        """A number of a feature; None where nobody knows it."""
        place = self._place(feature)
        return None if place is None or np.isnan(column[place]) else float(column[place])

    def _mask(self, query: FeatureQuery) -> NDArray[np.bool_]:
        columns = self._columns
        mask = np.ones(len(self), np.bool_)
        for least, column in (
            (_share(query.density_from), columns.density),
            (query.max_from, columns.max_activation),
            (query.senses_from, self.senses),
            (query.effect_from, self.effect),
            (query.score_from, columns.score),
        ):
            if least is not None:
                mask &= column >= least
        for most, column in (
            (_share(query.density_to), columns.density),
            (query.max_to, columns.max_activation),
        ):
            if most is not None:
                mask &= column <= most
        if query.explained:
            mask &= columns.explained
        if query.gender:
            mask &= self._gendered
        return mask

    def _ordered(self, name: str, descending: bool) -> Places:
        """Places in the order of a column; unknown values last, ties by feature."""
        columns = self._columns
        if name == "feature":
            rising = np.arange(len(self))
            return rising[::-1] if descending else rising
        if name in ("explanation", "tokens"):
            named = name == "explanation"
            texts = columns.explanation if named else ["".join(one[:1]) for one in columns.promoted]
            keys = [_alphabetical(text) for text in texts]
            known = np.array(
                sorted((at for at, key in enumerate(keys) if key), key=keys.__getitem__), np.int64
            )
            unknown = np.flatnonzero([not key for key in keys])
            return np.concatenate([known[::-1] if descending else known, unknown])
        column = {
            "density": columns.density,
            "max_activation": columns.max_activation,
            "score": columns.score,
            "senses": self.senses,
            "effect": self.effect,
        }[name]
        return np.argsort(-column if descending else column, kind="stable")  # NaN comes last both ways

    def _hits(self, words: str, catalog: Catalog) -> _Hits:
        """Places of the features that hold the words, best match first; kept, because pages follow."""
        with self._lock:
            kept = self._kept.get(words)
        if kept is not None:
            return kept
        hits = _Hits(self._search(words, catalog), widened=False)
        if not len(hits.places) and _LAST_WORD.search(words):
            hits = _Hits(self._search(f"{words}*", catalog), widened=True)
        with self._lock:
            while len(self._kept) >= _SEARCHES_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[words] = hits
        return hits

    def _search(self, words: str, catalog: Catalog) -> Places:
        expression = match_expression(words)
        found = [np.empty(0, np.int64)]
        number = FeatureQuery(q=words).number
        if number is not None:
            found.append(np.array([number], np.int64))
        if expression is not None:
            found.append(search_features(catalog, expression))
            found.append(self._sense_texts.search(expression))
        features = np.concatenate(found)
        _, first = np.unique(features, return_index=True)
        return self._places(features[np.sort(first)])

    def _places(self, features: Ids) -> Places:
        """Places of features, without those that are not here."""
        places = np.searchsorted(self.feature, features)
        here = places < len(self)
        here[here] = self.feature[places[here]] == features[here]
        return places[here]

    def _place(self, feature: int | None) -> int | None:
        found = self._places(np.array([] if feature is None else [feature], np.int64))
        return int(found[0]) if len(found) else None

    def _by_feature(self, values: Mapping[int, float]) -> Numbers:
        column = np.full(len(self.feature), np.nan)
        features = np.array(sorted(values), np.int64)
        here = features[np.isin(features, self.feature)]
        column[self._places(here)] = [values[int(feature)] for feature in here]
        return column


class _SenseTexts:
    """Full-text search in the tokens of senses, which come from another run than the features."""

    def __init__(self, texts: Mapping[int, str]) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute(
            "CREATE VIRTUAL TABLE search USING fts5 (text, content = '', tokenize = 'unicode61 remove_diacritics 0')"
        )
        self._connection.executemany(
            "INSERT INTO search (rowid, text) VALUES (?, ?)",
            ((feature, well_formed(text)) for feature, text in texts.items()),
        )

    def search(self, expression: str) -> Ids:
        with self._lock:
            found = self._connection.execute(
                "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rowid", (expression,)
            ).fetchall()
        return np.array([row[0] for row in found], np.int64)


def _gendered(promoted: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """Whether a gender word is among the tokens."""
    words = gender_words()
    every = set().union(*promoted) if promoted else set()
    theirs = {token for token in every if token.strip().lower() in words}
    return np.array([not theirs.isdisjoint(tokens) for tokens in promoted], np.bool_)


def _alphabetical(text: str) -> str:
    """A text as it is sorted: small and capital letters alike, without blanks before it."""
    return text.casefold().strip()


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
