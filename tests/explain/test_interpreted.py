"""``interpreted_features.json``: who said what, and never a failure as a text."""

from __future__ import annotations

import json
from pathlib import Path

from onesense.explain.interpreted import write_interpreted
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.explanations import ExplanationRow, ScoreRow, write_explanations, write_scores


def test_every_feature_has_a_record_and_failures_have_no_text(tmp_path: Path) -> None:
    path = tmp_path / "interpreted.json"
    with Catalog(tmp_path / "catalog.sqlite") as catalog:
        catalog.replace_features([FeatureRow(one, top_tokens=[f" word{one}"]) for one in range(4)])
        write_explanations(
            catalog,
            [
                ExplanationRow(0, text="rivers", model="m"),
                ExplanationRow(0, text="water words", method="lexical"),
                ExplanationRow(0, sense=1, status="truncated", text="cut of", detail="length", model="m"),
                ExplanationRow(1, status="refused", text="I cannot", detail="refused", model="m"),
                ExplanationRow(1, text="weapons", method="lexical"),
                ExplanationRow(2, text="commas </script>", method="lexical"),
            ],
        )
        write_scores(catalog, [ScoreRow(0, model="m", judge="m", value=0.75, baseline=0.5, items=16)])
        assert write_interpreted(path, catalog, [0, 1, 2, 3]) == 4
    records = json.loads(path.read_text())
    assert records[0] == {
        "feature": 0,
        "top_activated_words": [" word0"],
        "explanation": "rivers",
        "status": "ok",
        "detail": "",
        "method": "llm",
        "model": "m",
        "lexical": "water words",
        "senses": [
            {
                "sense": 1,
                "explanation": None,
                "status": "truncated",
                "detail": "length",
                "method": "llm",
                "model": "m",
            }
        ],
        "scores": [
            {
                "sense": -1,
                "kind": "detection",
                "method": "llm",
                "model": "m",
                "judge": "m",
                "value": 0.75,
                "low": None,
                "high": None,
                "auroc": None,
                "baseline": 0.5,
                "items": 16,
                "missing": 0,
                "detail": "",
            }
        ],
    }
    # The word sets do not stand in for a model that was asked and refused.
    assert (records[1]["explanation"], records[1]["status"], records[1]["lexical"]) == (
        None,
        "refused",
        "weapons",
    )
    assert (records[2]["explanation"], records[2]["method"]) == ("commas </script>", "lexical")
    assert (records[3]["explanation"], records[3]["status"]) == (None, None)
