"""The notebooks run, with small sizes; what is kept of their outputs was made by their own cells."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from recipes.notebooks import NOTEBOOKS, execute

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
_LARGEST = 400_000


def said(notebook: nbformat.NotebookNode) -> str:
    """Everything that cells printed or showed, as text."""
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    return "\n".join(one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs)


def test_both_are_there() -> None:
    assert [path.stem for path in PATHS] == ["debias_your_own", "original_walk_through"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_outputs_that_are_kept(path: Path) -> None:
    assert path.stat().st_size < _LARGEST
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run from top to end"
    kinds = {one.output_type for cell in cells for one in cell.outputs}
    assert "error" not in kinds
    assert "display_data" in kinds
    assert not any(one.get("name") == "stderr" for cell in cells for one in cell.outputs)
    assert not any(word in path.read_text(encoding="utf-8") for word in ("/root/", "/home/", "/tmp/"))


def test_the_walk_through_runs(tmp_path: Path) -> None:
    ran = execute(NOTEBOOKS / "original_walk_through.ipynb", tmp_path, small=True)
    rows = json.loads((tmp_path / "top_activations_per_feature.json").read_text(encoding="utf-8"))
    fields = ["feature", "mean", "std", "skewness", "kurtosis", "sparsity", "top_activated_words"]
    assert list(rows[0]) == fields
    assert len(json.loads((tmp_path / "interpreted_features.json").read_text(encoding="utf-8"))) == len(rows)
    text = said(ran)
    assert "Generation with steering:" in text
    assert "Generation without steering:" in text


def test_a_model_folder_is_debiased(tmp_path: Path) -> None:
    ran = execute(NOTEBOOKS / "debias_your_own.ipynb", tmp_path, small=True)
    recipe = json.loads(
        (tmp_path / "onesense-runs" / "my-debias" / "recipe.json").read_text(encoding="utf-8")
    )
    edits = [edit for part in recipe["parts"] for edit in part["edits"]]
    assert 1 <= len(edits) <= 10
    assert f"{len(edits)} edits" in said(ran)
    assert (tmp_path / "onesense-runs" / "my-debias" / "report.html").exists()
