"""``interpreted_features.json``: what the original project wrote at the end of this step, with why and how well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from onesense.explain.explanation import WHOLE
from onesense.store.atomic import write_json
from onesense.store.catalog import Catalog
from onesense.store.explanations import ExplanationRow, ScoreRow, read_explanations, read_scores


def interpreted_records(catalog: Catalog, features: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One record for each feature.

    ``feature``, ``top_activated_words`` (as text, a list), ``explanation``, ``status``, ``detail``, ``method`` and
    ``model`` of who was asked: a language model where one was, so that its failure does not hide behind the word
    sets; ``lexical`` (what these say), ``senses`` and ``scores``. What nobody knows is None.

    Args:
        catalog: The run's catalogue.
        features: Which.
    """
    for feature in features:
        row = catalog.feature(feature)
        said = read_explanations(catalog, feature)
        whole = [one for one in said if one.sense == WHOLE]
        best = min(whole, key=lambda one: (one.method != "llm", one.status != "ok"), default=None)
        lexical = next((one.text for one in whole if one.method == "lexical"), None)
        yield {
            "feature": feature,
            "top_activated_words": list(row.top_tokens),
            **_said(best),
            "lexical": lexical,
            "senses": [{"sense": one.sense, **_said(one)} for one in said if one.sense != WHOLE],
            "scores": [_score(one) for one in read_scores(catalog, feature)],
        }


def write_interpreted(path: Path, catalog: Catalog, features: Sequence[int]) -> int:
    """Write the records as JSON; how many there are.

    Raises:
        StorageError: The file cannot be written.
    """
    records = list(interpreted_records(catalog, features))
    write_json(path, records, sort_keys=False)
    return len(records)


def _said(row: ExplanationRow | None) -> dict[str, Any]:
    if row is None:
        return dict.fromkeys(("explanation", "status", "detail", "method", "model"))
    return {
        "explanation": row.text if row.status == "ok" else None,
        "status": row.status,
        "detail": row.detail,
        "method": row.method,
        "model": row.model,
    }


def _score(row: ScoreRow) -> dict[str, Any]:
    named = ("sense", "kind", "method", "model", "judge", "value", "low", "high", "auroc", "baseline")
    return {name: getattr(row, name) for name in (*named, "items", "missing", "detail")}
