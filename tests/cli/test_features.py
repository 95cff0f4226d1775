"""``onesense features candidates``."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Run
from onesense.store.candidates import CandidateRow
from onesense.store.catalog import Catalog
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
