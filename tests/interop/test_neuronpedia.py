"""Explanations for Neuronpedia: what is written, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from onesense.errors import ConfigurationError
from onesense.interop.neuronpedia import write_neuronpedia
from onesense.store.explanations import ExplanationRow

ROWS = [
    ExplanationRow(0, text="women’s pronouns \u2028 </script>", model="gpt-4o"),
    ExplanationRow(0, sense=1, text="of one sense only", model="gpt-4o"),
    ExplanationRow(1, status="refused", detail="no", model="gpt-4o"),
    ExplanationRow(12, method="lexical", text="names of months"),
]


@pytest.mark.parametrize("name", ["explanations.jsonl", "batch-0.jsonl.gz"])
def test_whole_features_that_came_back_well_are_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert write_neuronpedia(path, ROWS, model_id="gpt2-small", source_id="8-res-jb") == 2
    content = path.read_bytes()
    text = (gzip.decompress(content) if name.endswith(".gz") else content).decode()
    records = [json.loads(line) for line in text.split("\n") if line]
    assert records[0] == {
        "modelId": "gpt2-small",
        "layer": "8-res-jb",
        "index": "0",
        "description": "women’s pronouns \u2028 </script>",
        "explanationModelName": "gpt-4o",
        "typeName": "onesense_contexts-logits",
    }
    assert (records[1]["index"], records[1]["explanationModelName"]) == ("12", "onesense")
    again = tmp_path / f"again-{name}"
    write_neuronpedia(again, ROWS, model_id="gpt2-small", source_id="8-res-jb")
    assert again.read_bytes() == content


@pytest.mark.parametrize("bad", ["", "a/b", "../x", "a b", "x" * 101, "é"])
def test_an_id_that_is_none_is_refused_and_nothing_written(tmp_path: Path, bad: str) -> None:
    for ids in ({"model_id": bad, "source_id": "8-res-jb"}, {"model_id": "gpt2-small", "source_id": bad}):
        with pytest.raises(ConfigurationError, match="no id of Neuronpedia"):
            write_neuronpedia(tmp_path / "out.jsonl", ROWS, **ids)
    assert list(tmp_path.iterdir()) == []
