"""``onesense interpret --senses`` from end to end: a question for each sense of a feature that has several."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pytest_httpserver import HTTPServer

from cli.language_model_server import Script, serve
from command_line import Run
from onesense.features.extract import ExtractSettings, extract
from onesense.model.load import load_model
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.senses.measure import FEATURES, MeasureSettings, measure_senses, result_name
from onesense.senses.sense_table import SenseTable
from onesense.store.catalog import Catalog
from onesense.store.explanations import read_explanations
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from senses.planted_contexts import documents, quick_judge, sparse_dictionary


class Measured(NamedTuple):
    """An extracted run, the senses of its dictionary, and how many each feature has."""

    run: Path
    senses: Path
    number: list[int]


@pytest.fixture(scope="module", autouse=True)
def _quick_judge() -> Iterator[None]:
    with quick_judge():
        yield


@pytest.fixture(scope="module")
def measured(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("measured")
    text = folder / "sentences.jsonl"
    text.write_text("".join(json.dumps({"text": one.text}) + "\n" for one in documents()))
    model = load_model(str(gpt2_folder), device="cpu", dtype="float32")
    saved = write_saelens(sparse_dictionary(model), folder / "dictionary")
    moved = shutil.copytree(saved, folder / "moved")
    extract(model, load_dictionary(path=saved), folder / "run", ExtractSettings(text=str(text), check=False))
    # The same dictionary from another place is the same dictionary.
    senses = measure_senses(
        model,
        load_dictionary(path=moved),
        folder / "senses",
        MeasureSettings(text=str(text), contexts=16, check=False, others=()),
    )
    table = SenseTable.from_tensors(RunFolder.open(folder / "senses").read_result(result_name(FEATURES)))
    assert senses is not None
    return Measured(folder / "run", folder / "senses", table.number.tolist())


@pytest.fixture
def run(measured: Measured, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured.run, tmp_path / "run"))


@pytest.fixture
def script(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    return serve(httpserver)


def test_each_of_several_senses_is_explained(
    onesense: Run, measured: Measured, run: Path, script: Script, tmp_path: Path
) -> None:
    several = next(feature for feature, number in enumerate(measured.number) if number > 1)
    one = measured.number.index(1)
    unknown = measured.number.index(0)
    senses, out = measured.number[several], tmp_path / "out.json"
    flags = (
        "interpret", "--run-folder", run, "--base-url", script.url, "--senses", measured.senses,
        "--features", f"{several},{one},{unknown}", "--output-file", out,
    )  # fmt: skip
    outcome = onesense(*flags)
    assert outcome.code == 0, outcome.err
    assert f"Explaining: {3 + senses} requests" in outcome.err
    assert script.asked == 3 + senses
    assert sum("one of its senses" in prompt for prompt in script.prompts) == senses
    with Catalog(RunFolder.open(run).catalog_path, read_only=True) as catalog:
        rows = {(row.feature, row.sense): row for row in read_explanations(catalog, method="llm")}
    assert set(rows) == {(several, -1), (one, -1), (unknown, -1), *((several, at) for at in range(senses))}
    assert {row.status for row in rows.values()} == {"ok"}
    records = {record["feature"]: record for record in json.loads(out.read_text())}
    assert records[one]["senses"] == records[unknown]["senses"] == []
    told = records[several]["senses"]
    assert [sense["sense"] for sense in told] == list(range(senses))
    for sense in told:
        assert sense["explanation"] == rows[several, sense["sense"]].text
        assert (sense["status"], sense["model"]) == ("ok", "small")
    assert len({sense["explanation"] for sense in told} | {records[several]["explanation"]}) > 1
    shown = onesense("features", "show", several, "--run-folder", run)
    assert shown.code == 0, shown.err
    for sense in range(senses):
        assert f"small, sense {sense + 1}: {rows[several, sense].text}" in shown.out
    assert onesense(*flags).code == 0
    assert script.asked == 3 + senses


def test_senses_of_something_else_are_refused(
    onesense: Run, run: Path, script: Script, tmp_path: Path
) -> None:
    other = RunFolder.create_or_resume(
        tmp_path / "other",
        command="senses measure",
        configuration={},
        provenance=provenance(dictionary={"fingerprint": "0" * 64, "name": "another"}),
    )
    nothing = RunFolder.create_or_resume(
        tmp_path / "nothing", command="audit", configuration={}, provenance={}
    )
    flags = ("interpret", "--run-folder", run, "--base-url", script.url, "--senses")
    for folder, code, said in (
        (other.path, 5, "senses of another dictionary"),
        (nothing.path, 5, "senses of another dictionary"),
        (run, 3, "no result 'senses/features'"),
    ):
        outcome = onesense(*flags, folder)
        assert outcome.code == code, outcome.err
        assert said in outcome.err
        assert "Traceback" not in outcome.err
    assert script.asked == 0
