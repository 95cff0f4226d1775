"""What features are said to be, and how good the saying is, in the catalogue of their run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, Literal

from onesense.errors import NotFoundError
from onesense.store.catalog import Catalog, ExplanationStatus, well_formed

WHOLE = -1
"""In place of a sense: the feature as a whole."""

Method = Literal["llm", "lexical"]


@dataclass(frozen=True, slots=True)
class ExplanationRow:
    """One explanation of a feature, or why there is none.

    Attributes:
        feature: Id of the latent.
        sense: Number of its sense, or ``WHOLE``.
        method: Who says so: a language model, or the word sets.
        model: Name of the language model; empty for word sets.
        status: ``ok``, or why there is no text.
        text: The explanation; empty unless the status is ``ok``.
        detail: What went wrong, for people.
        prompt_tokens: That it took.
        completion_tokens: That it took.
        made_from: Digest of the settings that it was asked with.
    """

    feature: int
    sense: int = WHOLE
    method: Method = "llm"
    model: str = ""
    status: ExplanationStatus = "ok"
    text: str = ""
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    made_from: str = ""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """How good an explanation is, or a feature by itself. A number that is unknown or NaN is None.

    Attributes:
        feature: Id of the latent.
        sense: As of the explanation.
        method: As of the explanation; ``none`` where the score needs none (intruder).
        model: As of the explanation.
        kind: ``detection``, ``fuzz`` or ``intruder``.
        judge: Name of the model that judged; ``lexical`` for word sets.
        value: Balanced accuracy; for the intruder the share of rounds won.
        low: Lower end of its 95 % interval.
        high: Upper end.
        auroc: Of the judge's confidence; None for the intruder.
        baseline: ``value`` with the explanation of another feature; chance for the intruder.
        items: Contexts that were judged.
        missing: Contexts whose judgement did not come back well; they count nowhere.
        detail: Why there is no value, for people.
    """

    feature: int
    sense: int = WHOLE
    method: str = "llm"
    model: str = ""
    kind: str = "detection"
    judge: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    auroc: float | None = None
    baseline: float | None = None
    items: int = 0
    missing: int = 0
    detail: str = ""


_EXPLANATION = tuple(field.name for field in fields(ExplanationRow))
_SCORE = tuple(field.name for field in fields(ScoreRow))
BEST_FIRST = "status != 'ok', method != 'llm', model"
"""Order of a feature's explanations, the one to show first: a language model's before the word sets', then by name."""


def write_explanations(catalog: Catalog, rows: Iterable[ExplanationRow]) -> None:
    """Keep explanations, each in place of the one of the same feature, sense, method and model.

    Only those with status ``ok`` can be found by searching.

    Raises:
        NotFoundError: The catalogue has no such feature; nothing is written.
        StorageError: The disk is full; all is as it was.
    """
    values = [_clean(row) for row in rows]
    _write(catalog, "explanations", _EXPLANATION, values)


def write_scores(catalog: Catalog, rows: Iterable[ScoreRow]) -> None:
    """Keep scores, each in place of the one of the same explanation, kind and judge.

    Raises:
        NotFoundError: The catalogue has no such feature; nothing is written.
        StorageError: The disk is full; all is as it was.
    """
    _write(catalog, "scores", _SCORE, [_clean(row) for row in rows])


def read_explanations(
    catalog: Catalog,
    feature: int | None = None,
    *,
    sense: int | None = None,
    method: str | None = None,
    model: str | None = None,
) -> list[ExplanationRow]:
    """Explanations by feature and sense, of each the best first: a language model's before the word sets'."""
    where, values = _where(feature=feature, sense=sense, method=method, model=model)
    found = catalog.rows(
        f"SELECT {', '.join(_EXPLANATION)} FROM explanations{where} ORDER BY feature, sense, {BEST_FIRST}",
        values,
    )
    return [ExplanationRow(*values) for values in found]


def read_scores(catalog: Catalog, feature: int | None = None, *, kind: str | None = None) -> list[ScoreRow]:
    """Scores by feature, sense, kind, method, model and judge."""
    where, values = _where(feature=feature, kind=kind)
    found = catalog.rows(
        f"SELECT {', '.join(_SCORE)} FROM scores{where} ORDER BY feature, sense, kind, method, model, judge",
        values,
    )
    return [ScoreRow(*values) for values in found]


def best_explanations(catalog: Catalog, features: Sequence[int]) -> dict[int, ExplanationRow]:
    """The explanation to show of each of these features as a whole, where one came back well."""
    best: dict[int, ExplanationRow] = {}
    for feature in features:
        rows = [row for row in read_explanations(catalog, feature, sense=WHOLE) if row.status == "ok"]
        if rows:
            best[feature] = rows[0]
    return best


def _where(**columns: Any) -> tuple[str, tuple[Any, ...]]:
    """The condition that these columns have these values, those that are None left out, and the values."""
    # Only what is asked for: "? IS NULL OR feature = ?" would hide the key and read the whole table.
    given = {name: value for name, value in columns.items() if value is not None}
    condition = " AND ".join(f"{name} = ?" for name in given)
    return f" WHERE {condition}" if condition else "", tuple(given.values())


def _write(catalog: Catalog, table: str, columns: Sequence[str], values: Sequence[tuple[Any, ...]]) -> None:
    marks = ", ".join("?" * len(columns))
    with catalog.transaction() as connection:
        for feature in {value[0] for value in values}:
            known = connection.execute("SELECT 1 FROM features WHERE feature = ?", (feature,)).fetchone()
            if known is None:
                raise NotFoundError(
                    f"{catalog.path} has no feature {feature}.",
                    hint="Explain the features of the run that they were extracted in.",
                )
        connection.executemany(
            f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})", values
        )
        if table == "explanations":
            connection.executemany(
                "UPDATE search SET explanation = coalesce((SELECT group_concat(text, char(10)) FROM explanations"
                " WHERE explanations.feature = ?1 AND status = 'ok'), '') WHERE rowid = ?1",
                [(feature,) for feature in sorted({value[0] for value in values})],
            )


def _clean(row: ExplanationRow | ScoreRow) -> tuple[Any, ...]:
    return tuple(_storable(value) for value in astuple(row))


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
