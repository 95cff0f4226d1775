"""Explanations and scores in the catalogue: kept, replaced, found, and brought over from older runs."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from onesense.errors import ConfigurationError, NotFoundError
from onesense.store import migrations
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.explanations import (
    WHOLE,
    ExplanationRow,
    ScoreRow,
    best_explanations,
    read_explanations,
    read_scores,
    write_explanations,
    write_scores,
)

FEATURES = [
    FeatureRow(feature, top_tokens=[f"Ġtoken{feature}"], bottom_tokens=["Ġless"]) for feature in range(8)
]


@pytest.fixture
def catalog(tmp_path: Path):
    with Catalog(tmp_path / "catalog.sqlite") as made:
        made.replace_features(FEATURES)
        yield made


def _found(catalog: Catalog, query: str, **filters: float) -> list[int]:
    return [row.feature for row in catalog.search(query, **filters)]


def test_what_is_kept_is_read(catalog: Catalog) -> None:
    rows = [
        ExplanationRow(3, text="names of rivers", model="small", prompt_tokens=900, completion_tokens=12),
        ExplanationRow(3, sense=0, text="the Nile", model="small", made_from="abc"),
        ExplanationRow(3, method="lexical", text="words of geography"),
        ExplanationRow(4, status="http_error", detail="503 six times", model="small"),
    ]
    write_explanations(catalog, rows)
    assert read_explanations(catalog, 3) == [rows[0], rows[2], rows[1]]
    assert read_explanations(catalog, 3, sense=WHOLE, method="lexical") == [rows[2]]
    assert read_explanations(catalog, 4) == [rows[3]]
    assert read_explanations(catalog, model="small", sense=0) == [rows[1]]
    assert best_explanations(catalog, [3, 4, 5]) == {3: rows[0]}
    again = ExplanationRow(3, text="names of lakes", model="small")
    write_explanations(catalog, [again])
    assert best_explanations(catalog, [3]) == {3: again}
    assert len(read_explanations(catalog)) == 4


def test_what_is_known_of_one_feature_is_looked_up_by_its_key(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, tuple[object, ...]]] = []

    def rows(query: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        asked.append((query, values))
        return []

    with monkeypatch.context() as patched:
        patched.setattr(catalog, "rows", rows)
        read_explanations(catalog, 3, method="llm", model="small")
        best_explanations(catalog, [3])
        read_scores(catalog, 3)
    for query, values in asked:
        plan = " ".join(str(step[-1]) for step in catalog.rows(f"EXPLAIN QUERY PLAN {query}", values))
        assert "(feature=?" in plan, plan
        assert "SCAN" not in plan, plan
    assert len(asked) == 3


def test_only_what_came_back_well_is_found(catalog: Catalog) -> None:
    write_explanations(
        catalog,
        [
            ExplanationRow(4, text="words about knitting"),
            ExplanationRow(5, text="nothing to say of knitting", status="refused"),
            ExplanationRow(6, sense=1, text="knitting needles"),
            ExplanationRow(6, method="lexical", text="punctuation"),
        ],
    )
    assert sorted(_found(catalog, "knitting")) == [4, 6]
    assert _found(catalog, "punctuation") == [6]
    catalog.replace_features([*FEATURES, FeatureRow(8)])
    assert sorted(_found(catalog, "knitting")) == [4, 6]
    write_explanations(catalog, [ExplanationRow(4, text="lone \ud800 half", status="unparseable")])
    assert _found(catalog, "knitting") == [6]
    assert read_explanations(catalog, 4)[0].text == "lone ? half"


def test_a_feature_that_is_not_there_is_refused_and_nothing_is_written(catalog: Catalog) -> None:
    for write, row in ((write_explanations, ExplanationRow), (write_scores, ScoreRow)):
        with pytest.raises(NotFoundError, match="no feature 99"):
            write(catalog, [row(1), row(99)])
    assert read_explanations(catalog) == []
    assert read_scores(catalog) == []


def test_either_side_of_or(catalog: Catalog) -> None:
    write_explanations(
        catalog, [ExplanationRow(1, text="a nurse"), ExplanationRow(2, text="the hospital ward")]
    )
    assert sorted(_found(catalog, "nurse OR hospital")) == [1, 2]
    assert sorted(_found(catalog, "nurse OR hospital ward OR nothing")) == [1, 2]
    assert _found(catalog, "nurse hospital") == []
    assert _found(catalog, '"hospital ward"') == [2]
    assert _found(catalog, '"ward hospital"') == []
    assert _found(catalog, "nurse or hospital") == []  # a small "or" is a word
    for odd in (
        "OR",
        "OR nurse",
        "nurse OR",
        "nurse OR OR",
        '"OR" nurse',
        'nurse "',
        '"" nurse',
        "NEAR(nurse)",
    ):
        assert set(_found(catalog, odd)) <= {1}
    assert _found(catalog, "OR nurse") == [1]
    assert _found(catalog, "hosp* OR nur*") != []


def test_scores_filter_what_is_found(catalog: Catalog) -> None:
    write_explanations(catalog, [ExplanationRow(one, text="rivers") for one in (1, 2, 3, 4)])
    rows = [
        ScoreRow(1, value=0.9, low=0.8, high=0.95, auroc=0.97, baseline=0.52, items=16),
        ScoreRow(2, value=0.6, items=16, missing=2),
        ScoreRow(3, kind="intruder", method="none", value=1.0),
        ScoreRow(4, value=math.nan, auroc=math.inf, detail="too few contexts"),
    ]
    write_scores(catalog, rows)
    assert read_scores(catalog, 1) == [rows[0]]
    assert read_scores(catalog, kind="intruder") == [rows[2]]
    assert read_scores(catalog, 4) == [ScoreRow(4, detail="too few contexts")]
    assert sorted(_found(catalog, "rivers", min_score=0.7)) == [1]
    assert sorted(_found(catalog, "rivers", min_score=0.6)) == [1, 2]
    assert sorted(_found(catalog, "rivers")) == [1, 2, 3, 4]
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigurationError, match="score"):
            catalog.search("rivers", min_score=bad)


def test_explanations_of_an_older_run_are_brought_over(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with Catalog(path) as made:
        made.replace_features(FEATURES)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP TABLE explanations")
    connection.execute("DROP TABLE scores")
    migrations.m002_explanations(connection)
    connection.execute("INSERT INTO explanations VALUES (2, 'ok', 'old words'), (3, 'refused', 'no')")
    connection.execute("DELETE FROM migrations WHERE name = 'm007_who_explains'")
    connection.close()
    with Catalog(path) as opened:
        assert read_explanations(opened) == [
            ExplanationRow(2, text="old words"),
            ExplanationRow(3, status="refused", text="no"),
        ]
