"""``onesense senses``: measure, list, show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Outcome, Run
from onesense.model.load import load_model
from onesense.sae.write import write_saelens
from onesense.senses.measure import MeasureSettings, measure_senses
from onesense.senses.sense_catalog import write_sense_catalog
from onesense.store.run_folder import RunFolder
from senses.planted_contexts import documents, quick_judge, sparse_dictionary


@pytest.fixture(scope="module", autouse=True)
def _quick_judge() -> Iterator[None]:
    with quick_judge():
        yield


@pytest.fixture(scope="module")
def dictionary_folder(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load_model(str(gpt2_folder), device="cpu")
    return write_saelens(sparse_dictionary(model), tmp_path_factory.mktemp("saes") / "sparse")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "sentences.jsonl"
    path.write_text("".join(json.dumps({"text": one.text}) + "\n" for one in documents()))
    return path


@pytest.fixture(scope="module")
def run(gpt2_folder: Path, sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load_model(str(gpt2_folder), device="cpu")
    settings = MeasureSettings(text=str(sentences), contexts=16, check=False, others=("neurons",))
    folder = tmp_path_factory.mktemp("runs") / "run"
    write_sense_catalog(measure_senses(model, sparse_dictionary(model), folder, settings), model)
    return folder


def _told(outcome: Outcome, *words: str, code: int = 2) -> None:
    assert outcome.code == code, outcome.err
    assert all(word in outcome.err for word in words), outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 3


def test_measure_shows_each_set_and_draws(
    onesense: Run, gpt2_folder: Path, dictionary_folder: Path, sentences: Path, tmp_path: Path
) -> None:
    flags = ("--text", sentences, "--contexts", 16, "--no-check", "--run-folder", tmp_path / "run", "--quiet")
    outcome = onesense(
        "senses",
        "measure",
        gpt2_folder,
        "--sae-path",
        dictionary_folder,
        "--beside",
        "residual-basis",
        *flags,
    )
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].split()[:3] == ["units", "all", "measured"]
    assert lines[1].split()[:2] == ["features", "120"]
    assert lines[2].split()[:3] == ["residual", "basis", "32"]
    assert "neurons" not in outcome.out
    assert (tmp_path / "run/senses.png").read_bytes().startswith(b"\x89PNG")
    listed = onesense("senses", "list", "--run-folder", tmp_path / "run", "--limit", 3)
    assert len(listed.out.splitlines()) == 4


def test_a_text_of_one_document_is_told(
    onesense: Run, gpt2_folder: Path, dictionary_folder: Path, sentences: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one.txt"
    one.write_text(" ".join(json.loads(line)["text"] for line in sentences.read_text().splitlines()))
    flags = (
        "--contexts",
        16,
        "--beside",
        "neurons",
        "--no-check",
        "--run-folder",
        tmp_path / "run",
        "--quiet",
    )
    outcome = onesense(
        "senses", "measure", gpt2_folder, "--sae-path", dictionary_folder, "--text", one, *flags
    )
    assert outcome.code == 0, outcome.err
    assert "Nothing is known of features, neurons" in outcome.err
    assert "two documents" in outcome.err


def test_units_are_listed_in_the_order_asked_for(onesense: Run, run: Path) -> None:
    outcome = onesense("senses", "list", "--run-folder", run, "--limit", 500)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].split()[:6] == ["units", "unit", "senses", "effective", "several", "density"]
    assert len(lines) == 1 + 120 + 128
    dense = onesense("senses", "list", "--run-folder", run, "--units", "features", "--sort", "density")
    first = dense.out.splitlines()[1].split()
    assert (first[:2], first[5]) == (["features", "119"], "100.00%")
    rare = onesense(
        "senses", "list", "--run-folder", run, "--sort", "density", "--ascending", "--units", "features"
    )
    silent = rare.out.splitlines()[1].split()
    assert (silent[0], silent[2:]) == ("features", ["?", "0.00%"])
    none = onesense("senses", "list", "--run-folder", run, "--min-senses", 99)
    assert (none.code, none.out) == (0, "")
    assert "No such unit" in none.err


def test_a_unit_is_shown_with_its_contexts(onesense: Run, run: Path) -> None:
    outcome = onesense("senses", "show", 119, "--run-folder", run, "--contexts", 2)
    assert outcome.code == 0, outcome.err
    assert "fires at 100.00% of the text" in outcome.out
    assert "Sense 1" in outcome.out
    lines = [line for line in outcome.out.splitlines() if "»" in line]
    senses = outcome.out.count("\nSense ")
    assert len(lines) == 2 * senses
    assert all("«" in line for line in lines)
    silent = onesense("senses", "show", 118, "--run-folder", run)
    assert silent.code == 0
    assert "too few contexts" in silent.err
    neuron = onesense("senses", "show", 0, "--run-folder", run, "--units", "neurons")
    assert neuron.code == 0
    assert neuron.out.startswith("neurons, 0 at ")


def test_bad_input_is_told_in_a_line(
    onesense: Run, run: Path, gpt2_folder: Path, dictionary_folder: Path, tmp_path: Path
) -> None:
    measure = (
        "senses",
        "measure",
        gpt2_folder,
        "--sae-path",
        dictionary_folder,
        "--run-folder",
        tmp_path / "x",
    )
    _told(onesense(*measure, "--beside", "neuron"), "'neuron'", "residual-basis")
    _told(onesense(*measure, "--contexts", 4), "too few")
    _told(onesense(*measure, "--max-tokens", 0), "too few")
    assert not (tmp_path / "x").exists()
    _told(
        onesense("senses", "show", 5, "--run-folder", run, "--units", "heads"), "'heads'", "neurons", code=3
    )
    _told(onesense("senses", "show", 120, "--run-folder", run), "no unit 120", "119", code=3)
    _told(onesense("senses", "list", "--run-folder", run, "--sort", "sevral"), "Did you mean several?")
    for command in (("list",), ("show", 3)):
        _told(onesense("senses", *command, "--run-folder", tmp_path), "not a run folder", code=3)


def test_a_run_that_measured_no_senses_is_told(onesense: Run, tmp_path: Path) -> None:
    other = RunFolder.create_or_resume(tmp_path / "run", command="extract", configuration={}, provenance={})
    _told(onesense("senses", "show", 3, "--run-folder", other.path), "no result 'senses/features'", code=3)
    outcome = onesense("senses", "list", "--run-folder", other.path)
    assert outcome.code == 3
    assert "Traceback" not in outcome.err
