"""``onesense features``: candidates, explanations, and where they go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import Run
from onesense.store.candidates import CandidateRow
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.explanations import ExplanationRow, ScoreRow, write_explanations, write_scores
from onesense.store.run_folder import RunFolder

POINT = "blocks.15.hook_resid_post"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = RunFolder.create_or_resume(tmp_path / "run", command="debias", configuration={}, provenance={})
    with Catalog(made.catalog_path) as catalog:
        catalog.replace_candidates(
            [
                CandidateRow(POINT, 460, bias=0.5, kl=0.25, factor=0.2, promoted=(" she", "[bold]")),
                CandidateRow("blocks.9.hook_resid_post", 7, bias=0.125),
            ]
        )
    return made.path


def test_candidates_are_listed_in_the_order_asked_for(onesense: Run, run: Path) -> None:
    outcome = onesense("features", "candidates", "--run-folder", run)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].split() == [
        "hook", "point", "feature", "bias", "toward_women", "fact", "kl", "density", "factor", "promotes",
    ]  # fmt: skip
    assert lines[1].split()[:5] == [POINT, "460", "0.5", "0.25", "0.2"]
    assert "[bold]" in lines[1]
    assert lines[2].split() == ["blocks.9.hook_resid_post", "7", "0.125"]
    smallest = onesense("features", "candidates", "--run-folder", run, "--ascending").out.splitlines()
    assert smallest[1].split()[1] == "7"


def test_candidates_are_filtered(onesense: Run, run: Path) -> None:
    edited = onesense("features", "candidates", "--run-folder", run, "--edited").out
    assert "460" in edited
    assert "blocks.9" not in edited
    elsewhere = onesense(
        "features", "candidates", "--run-folder", run, "--hook-point", "blocks.1.hook_mlp_out"
    )
    assert elsewhere.code == 0
    assert elsewhere.out == ""
    assert "No candidate" in elsewhere.err


def test_what_cannot_be_sorted_by_is_told(onesense: Run, run: Path) -> None:
    outcome = onesense("features", "candidates", "--run-folder", run, "--sort", "biass")
    assert outcome.code == 2
    assert "Did you mean bias?" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.fixture
def explained(tmp_path: Path) -> Path:
    made = RunFolder.create_or_resume(
        tmp_path / "explained",
        command="extract",
        configuration={"hook_point": POINT, "model": "demo"},
        provenance={},
    )
    with Catalog(made.catalog_path) as catalog:
        catalog.replace_features(
            [FeatureRow(one, density=0.01, top_tokens=[f"Ġword{one}"], bottom_tokens=[]) for one in range(4)]
        )
        write_explanations(
            catalog,
            [
                ExplanationRow(0, text="nurses \x1b[31m on \u202e wards", model="gpt-4o"),
                ExplanationRow(0, text="words of medicine", method="lexical"),
                ExplanationRow(0, sense=1, text="to nurse a grudge", model="gpt-4o"),
                ExplanationRow(1, text="a hospital", method="lexical"),
                ExplanationRow(2, status="http_error", detail="503 six times", model="gpt-4o"),
            ],
        )
        write_scores(
            catalog,
            [
                ScoreRow(
                    0,
                    model="gpt-4o",
                    judge="gpt-4o",
                    value=0.875,
                    low=0.64,
                    high=0.97,
                    baseline=0.5,
                    missing=1,
                ),
                ScoreRow(1, method="lexical", judge="lexical", value=0.6),
                ScoreRow(2, method="none", kind="intruder", judge="gpt-4o", detail="too few contexts"),
            ],
        )
    return made.path


def test_search_finds_explanations_with_their_score(onesense: Run, explained: Path) -> None:
    outcome = onesense("features", "search", "nurse* OR hospital", "--run-folder", explained)
    lines = sorted(outcome.out.splitlines())
    assert lines == ["     0   1.000% 0.88  nurses �[31m on � wards", "     1   1.000% 0.60  a hospital"]
    only = onesense(
        "features", "search", "nurses OR hospital", "--min-score", "0.7", "--run-folder", explained
    )
    assert [line.split()[0] for line in only.out.splitlines()] == ["0"]
    none = onesense("features", "search", "hospital", "--min-score", "0.7", "--run-folder", explained)
    assert none.code == 0
    assert none.out == ""
    assert "with a score of 0.7 or more" in none.err
    bad = onesense("features", "search", "hospital", "--min-score", "70", "--run-folder", explained)
    assert bad.code == 2
    assert "0 to 1" in bad.err


def test_show_says_what_a_feature_is_said_to_be(onesense: Run, explained: Path) -> None:
    out = onesense("features", "show", 0, "--run-folder", explained).out
    assert "  gpt-4o: nurses �[31m on � wards\n" in out
    assert "  gpt-4o, sense 2: to nurse a grudge\n" in out
    assert "  lexical: words of medicine\n" in out
    assert (
        "  detection of gpt-4o by gpt-4o: 0.88 [0.64, 0.97], with another feature's words 0.50, 1 missing\n"
        in out
    )
    out = onesense("features", "show", 2, "--run-folder", explained).out
    assert "  gpt-4o: (http_error: 503 six times)\n" in out
    assert "  intruder by gpt-4o: none (too few contexts)\n" in out


def test_explanations_for_neuronpedia(onesense: Run, explained: Path, tmp_path: Path) -> None:
    ids = ("--model-id", "gpt2-small", "--source-id", "8-res-jb", "--run-folder", explained)
    path = tmp_path / "out.jsonl"
    outcome = onesense("features", "neuronpedia", path, *ids)
    assert outcome.code == 0, outcome.err
    assert "3 explanations saved" in outcome.err
    lexical = onesense("features", "neuronpedia", path, *ids, "--method", "lexical")
    assert "2 explanations saved" in lexical.err
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == ["0", "1"]
    wrong = onesense("features", "neuronpedia", path, *ids, "--method", "gpt-4o")
    assert wrong.code == 2
    assert "Choose llm or lexical" in wrong.err


def test_a_feature_of_a_table_is_shown_though_its_model_is_unknown(onesense: Run, tmp_path: Path) -> None:
    table, folder = tmp_path / "top.json", tmp_path / "run"
    table.write_text(json.dumps([{"feature": 7, "top_activated_words": "Ġshe Ġher"}]))
    begun = onesense("interpret", "--input-file", table, "--run-folder", folder, "--explainer", "lexical")
    assert begun.code == 0, begun.err
    outcome = onesense("features", "show", "7", "--run-folder", folder)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("Feature 7\n")
    assert "' she'  ' her'" in outcome.out
