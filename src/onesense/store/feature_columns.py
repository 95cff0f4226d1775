"""The catalogue by columns: one number of every feature at once, and whole rows of a few features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesense.errors import FormatError
from onesense.store.catalog import Catalog
from onesense.store.explanations import BEST_FIRST, WHOLE

Numbers = NDArray[np.float64]
Ids = NDArray[np.int64]

_ALL = ""
_AT_ONCE = 500
_MOST_RANKED = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class FeatureColumns:
    """Every feature of a catalogue; what belongs to one stands at the same place in each column.

    Attributes:
        feature: Ids, rising, int64 [n].
        density: Share of tokens on which it fires; NaN where nobody knows, as in each column of numbers.
        max_activation: Largest activation.
        score: Of the explanation that is shown; see ``ShownFeature``.
        explained: Whether there is an explanation that came back well, bool [n].
        explanation: The explanations that are shown; empty where there is none.
        promoted: Tokens that are promoted, strongest first.
    """

    feature: Ids
    density: Numbers
    max_activation: Numbers
    score: Numbers
    explained: NDArray[np.bool_]
    explanation: list[str]
    promoted: list[list[str]]


@dataclass(frozen=True, slots=True)
class ShownFeature:
    """A feature as a table shows it. A number that is unknown is None.

    Attributes:
        feature: Id of the latent.
        density: Share of tokens on which it fires.
        max_activation: Largest activation.
        promoted: Tokens that it promotes most, strongest first.
        suppressed: Tokens that it suppresses most, strongest first.
        status: Of its best explanation; empty where nobody explained it.
        explanation: The text; empty unless the status is ``ok``.
        method: Who says so: ``llm`` or ``lexical``.
        detail: Why there is no text.
        score: Balanced accuracy of this explanation by detection, else by fuzzing; of several judges the
            lowest. 0.5 is chance.
    """

    feature: int
    density: float | None = None
    max_activation: float | None = None
    promoted: Sequence[str] = ()
    suppressed: Sequence[str] = ()
    status: str = ""
    explanation: str = ""
    method: str = ""
    detail: str = ""
    score: float | None = None


class _Said(NamedTuple):
    status: str
    text: str
    method: str
    model: str
    detail: str


def read_columns(catalog: Catalog) -> FeatureColumns:
    """All features by columns.

    Raises:
        StorageError, FormatError: See ``sqlite_errors``.
    """
    found = catalog.rows("SELECT feature, density, max_activation, top_tokens FROM features ORDER BY feature")
    said, scores = _explanations(catalog), _scores(catalog)
    features = [int(row[0]) for row in found]
    best = [said.get(feature) for feature in features]
    score = [
        None if one is None else scores.get((feature, one.method, one.model))
        for feature, one in zip(features, best, strict=True)
    ]
    density, most = (np.array([row[at] for row in found], np.float64) for at in (1, 2))
    return FeatureColumns(
        np.array(features, np.int64),
        density,
        most,
        np.array(score, np.float64),
        np.array([one is not None and one.status == "ok" for one in best], np.bool_),
        ["" if one is None else one.text for one in best],
        lists_of(catalog, [row[3] for row in found]),
    )


def read_shown(catalog: Catalog, features: Sequence[int]) -> list[ShownFeature]:
    """These features in this order; those that are not there any more are left out.

    Raises:
        StorageError, FormatError: See ``sqlite_errors``.
    """
    shown = []
    for start in range(0, len(features), _AT_ONCE):
        ids = [int(feature) for feature in features[start : start + _AT_ONCE]]
        marks = f" AND feature IN ({', '.join('?' * len(ids))})"
        found = catalog.rows(
            "SELECT feature, density, max_activation, top_tokens, bottom_tokens"
            f" FROM features WHERE 1{marks}",
            ids,
        )
        tokens = lists_of(catalog, [text for row in found for text in row[3:]])
        rows = {row[0]: (*row[1:3], *tokens[2 * at : 2 * at + 2]) for at, row in enumerate(found)}
        said, scores = _explanations(catalog, marks, ids), _scores(catalog, marks, ids)
        for feature in ids:
            if feature in rows:
                density, most, promoted, suppressed = rows[feature]
                one = said.get(feature, _Said("", "", "", "", ""))
                shown.append(
                    ShownFeature(
                        feature,
                        density,
                        most,
                        tuple(promoted),
                        tuple(suppressed),
                        one.status,
                        one.text,
                        one.method,
                        one.detail,
                        scores.get((feature, one.method, one.model)),
                    )
                )
    return shown


def search_features(catalog: Catalog, expression: str) -> Ids:
    """Features whose tokens or explanations match an FTS5 expression, best match first; very many by number.

    Args:
        catalog: The catalogue.
        expression: See ``match_expression``: never what somebody typed.

    Raises:
        StorageError, FormatError: See ``sqlite_errors``.
    """
    found = catalog.rows("SELECT rowid FROM search WHERE search MATCH ? ORDER BY rowid", (expression,))
    if len(found) <= _MOST_RANKED:
        found = catalog.rows("SELECT rowid FROM search WHERE search MATCH ? ORDER BY rank", (expression,))
    return np.array([row[0] for row in found], np.int64)


def lists_of(catalog: Catalog, texts: Sequence[str]) -> list[Any]:
    """Lists that a catalogue keeps as JSON, read in one go: one by one takes ten times as long.

    Raises:
        FormatError: One of them is none.
    """
    try:
        return list(json.loads(f"[{','.join(texts)}]"))
    except (ValueError, TypeError) as error:
        raise FormatError(
            f"{catalog.path} is damaged: {error}.", hint="Delete it and run the command again."
        ) from error


def _explanations(catalog: Catalog, where: str = _ALL, values: Sequence[int] = ()) -> dict[int, _Said]:
    """The explanation to show of each feature as a whole."""
    found = catalog.rows(
        "SELECT feature, status, text, method, model, detail FROM explanations"
        f" WHERE sense = {WHOLE}{where} ORDER BY feature, {BEST_FIRST}",
        values,
    )
    return {int(row[0]): _Said(*row[1:]) for row in reversed(found)}  # the first of a feature stays


def _scores(
    catalog: Catalog, where: str = _ALL, values: Sequence[int] = ()
) -> dict[tuple[int, str, str], float]:
    """The score of each explanation, by feature, method and model."""
    found = catalog.rows(
        "SELECT feature, method, model, min(value) FROM scores"
        f" WHERE sense = {WHOLE} AND kind IN ('detection', 'fuzz') AND value IS NOT NULL{where}"
        " GROUP BY feature, method, model, kind ORDER BY kind DESC",
        values,
    )
    return {(int(row[0]), row[1], row[2]): float(row[3]) for row in found}  # detection comes after fuzz
