"""All features of a run as columns in memory: filters and orders of 100,000 rows in milliseconds.

Texts stay in the catalogue: its full-text index says which features match, and only the rows that are shown
are read.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field

from onesense.errors import OnesenseError
from onesense.store.catalog import Catalog, match_expression
from onesense.web.workspace import KnownRun, Workspace

Floats = NDArray[np.float64]
Column = Literal[
    "match", "feature", "density", "max_activation", "skewness", "kurtosis", "senses", "gender", "score"
]
_FEATURES = "features"


def _nothing(value: Any) -> Any:
    """A field of a form that was left empty is not set."""
    return None if value == "" else value


Number = Annotated[float | None, BeforeValidator(_nothing), Field(allow_inf_nan=False)]


class FeatureQuery(BaseModel):
    """What the table shows; every field stands in the address.

    Attributes:
        q: Words of explanations, tokens and senses.
        sort: Column to order by; ``match`` is how well the words match.
        order: ``asc`` or ``desc``.
        page: From 1.
        size: Rows of a page.
        density_min: Share of tokens, at least.
        density_max: At most.
        activation_min: Largest activation, at least.
        activation_max: At most.
        senses_min: Number of senses, at least.
        gender_min: Gender effect, at least.
        score_min: Score of its explanation, at least.
        explained: Only features with an explanation.
    """

    q: str = Field(default="", max_length=1000)
    sort: Column = "match"
    order: Literal["asc", "desc"] = "desc"
    page: int = Field(default=1, ge=1, le=1_000_000)
    size: int = Field(default=50, ge=10, le=200)
    density_min: Number = None
    density_max: Number = None
    activation_min: Number = None
    activation_max: Number = None
    senses_min: Number = None
    gender_min: Number = None
    score_min: Number = None
    explained: bool = False


class Sources(NamedTuple):
    """Where the columns come from.

    Attributes:
        run: The run of ``onesense extract``.
        senses: A run of ``onesense senses measure`` of the same dictionary, or None.
        debias: A run of ``onesense debias`` that looked at the same dictionary, or None.
    """

    run: KnownRun
    senses: KnownRun | None
    debias: KnownRun | None

    @classmethod
    def of(cls, workspace: Workspace, run: KnownRun) -> Sources:
        """The runs that know something of the same features: the dictionary's numbers decide."""
        fingerprint, point = run.dictionary_fingerprint, run.fact("hook_point")
        senses = [
            one for one in workspace.of_command("senses measure") if one.dictionary_fingerprint == fingerprint
        ]
        debias = [one for one in workspace.of_command("debias") if one.dictionary_at(point) == fingerprint]
        return cls(run, senses[-1] if senses else None, debias[-1] if debias else None)

    @property
    def paths(self) -> list[Path]:
        """The catalogues."""
        return [one.path / "catalog.sqlite" for one in self if one is not None]


class FeatureIndex:
    """The columns of a run.

    Args:
        sources: Where they come from.

    Raises:
        OnesenseError: The catalogue of the run cannot be read; those of the other runs are left out then.

    Attributes:
        columns: float64 [features] by name; NaN where unknown.
        feature: Ids, int64 [features], in ascending order.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        with Catalog(sources.run.path / "catalog.sqlite", read_only=True) as catalog:
            numbers = catalog.rows(
                "SELECT feature, density, max_activation, skewness, kurtosis FROM features ORDER BY feature"
            )
            scores = catalog.rows(
                "SELECT feature, max(value) FROM scores WHERE kind != 'intruder' AND sense = -1 GROUP BY feature"
            )
            said = catalog.rows("SELECT DISTINCT feature, 1 FROM explanations WHERE status = 'ok'")
        table = np.array(numbers, dtype=np.float64).reshape(-1, 5)
        self.feature: NDArray[np.int64] = table[:, 0].astype(np.int64)
        self.columns: dict[str, Floats] = {
            "feature": table[:, 0],
            "density": table[:, 1],
            "max_activation": table[:, 2],
            "skewness": table[:, 3],
            "kurtosis": table[:, 4],
            "score": self._spread(scores),
            "explained": self._spread(said),
        }
        senses = _rows(
            sources.senses, "SELECT unit, number, tokens FROM senses WHERE unit_set = ?", (_FEATURES,)
        )
        point = sources.run.fact("hook_point")
        bias = _rows(sources.debias, "SELECT feature, bias FROM candidates WHERE hook_point = ?", (point,))
        self.columns["senses"] = self._spread([row[:2] for row in senses])
        self.columns["gender"] = self._spread(bias)
        self._lock = threading.Lock()
        self._sense_words = _searchable(senses)

    def __len__(self) -> int:
        return len(self.feature)

    def known(self, name: str) -> bool:
        """Whether any feature has a number in this column."""
        return bool(np.isfinite(self.columns[name]).any())

    def select(self, query: FeatureQuery, catalog: Catalog) -> NDArray[np.int64]:
        """Ids of the features that a query asks for, in its order.

        Args:
            query: What is asked.
            catalog: The catalogue of the run.
        """
        kept = self._kept(query)
        matches = self._matches(query.q, catalog)
        if matches is not None:
            found = np.zeros(len(self), dtype=bool)
            places = self._places(matches)
            found[places[places >= 0]] = True
            kept &= found
        if query.sort == "match":
            if matches is None:
                return self.feature[kept]
            places = self._places(matches)
            places = places[places >= 0]
            return self.feature[places[kept[places]]]
        values = self.columns[query.sort][kept]
        # Unknown values last either way; ties by feature.
        order = np.lexsort((self.feature[kept], values if query.order == "asc" else -values))
        return self.feature[kept][order]

    def _kept(self, query: FeatureQuery) -> NDArray[np.bool_]:
        kept = np.ones(len(self), dtype=bool)
        least = {
            "density": query.density_min,
            "max_activation": query.activation_min,
            "senses": query.senses_min,
            "gender": query.gender_min,
            "score": query.score_min,
            "explained": 1.0 if query.explained else None,
        }
        most = {"density": query.density_max, "max_activation": query.activation_max}
        for name, limit in least.items():
            if limit is not None:
                kept &= self.columns[name] >= limit
        for name, limit in most.items():
            if limit is not None:
                kept &= self.columns[name] <= limit
        return kept

    def _matches(self, words: str, catalog: Catalog) -> NDArray[np.int64] | None:
        """Features whose texts match, the best first; None where nothing is asked."""
        expression = match_expression(words)
        if expression is None:
            return None if not words.strip() else np.zeros(0, np.int64)
        found = [row[0] for row in catalog.rows(_SEARCH, (expression,))]
        if self._sense_words is not None:
            with self._lock:
                more = self._sense_words.execute(_SEARCH_SENSES, (expression,)).fetchall()
            found += [row[0] for row in more]
        if words.strip().isdecimal() and len(words.strip()) < 19:
            found.insert(0, int(words))
        return np.array(list(dict.fromkeys(found)), dtype=np.int64)

    def _places(self, features: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where these features stand; -1 for those that are not there."""
        if len(self) == 0:
            return np.full(len(features), -1, np.int64)
        places = np.searchsorted(self.feature, features).clip(0, len(self) - 1)
        return np.where(self.feature[places] == features, places, -1)

    def _spread(self, pairs: Sequence[Sequence[Any]]) -> Floats:
        values = np.full(len(self.feature), np.nan)
        if pairs:
            table = np.array([[row[0], np.nan if row[1] is None else row[1]] for row in pairs], np.float64)
            places = self._places(table[:, 0].astype(np.int64))
            values[places[places >= 0]] = table[places >= 0, 1]
        return values


_SEARCH = "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rank, rowid"
_SEARCH_SENSES = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank, rowid"


class FeatureIndexes:
    """Keeps the index of each run until one of the catalogues changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[Any, FeatureIndex]] = {}

    def get(self, workspace: Workspace, run: KnownRun) -> FeatureIndex:
        """The index of a run.

        Raises:
            OnesenseError: Its catalogue cannot be read.
        """
        sources = Sources.of(workspace, run)
        state = [_state(path) for path in sources.paths]
        with self._lock:
            there = self._kept.get(run.id)
            if there is None or there[0] != state:
                there = (state, FeatureIndex(sources))
                self._kept[run.id] = there
        return there[1]


def _state(path: Path) -> tuple[Any, ...]:
    """What changes when something is written to a database, its write-ahead log included."""
    found: list[Any] = [str(path)]
    for one in (path, path.with_name(f"{path.name}-wal")):
        try:
            status = one.stat()
        except OSError:
            found.append(None)
            continue
        found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _rows(run: KnownRun | None, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows of another run's catalogue; none where there is no such run, or it cannot be read now."""
    if run is None:
        return []
    try:
        with Catalog(run.path / "catalog.sqlite", read_only=True) as catalog:
            return catalog.rows(query, values)
    except OnesenseError:
        return []


def _searchable(senses: Sequence[Sequence[Any]]) -> sqlite3.Connection | None:
    """The tokens of senses in a full-text index of their own, in memory."""
    if not senses:
        return None
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute(
        "CREATE VIRTUAL TABLE words USING fts5 (tokens, tokenize = 'unicode61 remove_diacritics 0')"
    )
    connection.executemany(
        "INSERT INTO words (rowid, tokens) VALUES (?, ?)",
        (
            (unit, " ".join(token for sense in json.loads(tokens) for token in sense))
            for unit, _, tokens in senses
        ),
    )
    return connection
