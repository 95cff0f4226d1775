"""What goes on from measured senses: ``senses validate``, ``senses split``, ``study``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Outcome, Run
from onesense.model.load import load_model
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.senses.measure import MeasureSettings, measure_senses
from onesense.senses.split.split_map import read_split_map
from senses.planted_contexts import documents, quick_judge, sparse_dictionary


@pytest.fixture(scope="module", autouse=True)
def _quick_judge() -> Iterator[None]:
    with quick_judge():
        yield


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "sentences.jsonl"
    path.write_text("".join(json.dumps({"text": one.text}) + "\n" for one in documents()))
    return path


@pytest.fixture(scope="module")
def dictionary_folder(gpt2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load_model(str(gpt2_folder), device="cpu")
    return write_saelens(sparse_dictionary(model), tmp_path_factory.mktemp("saes") / "sparse")


@pytest.fixture(scope="module")
def run(
    gpt2_folder: Path, dictionary_folder: Path, sentences: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    model = load_model(str(gpt2_folder), device="cpu")
    settings = MeasureSettings(
        text=str(sentences), contexts=16, check=False, others=("neurons",), dtype="float32"
    )
    folder = tmp_path_factory.mktemp("runs") / "run"
    measure_senses(model, load_dictionary(path=dictionary_folder), folder, settings)
    return folder


def _told(outcome: Outcome, *words: str, code: int = 2) -> None:
    assert outcome.code == code, outcome.err
    assert all(word in outcome.err for word in words), outcome.err
    assert "Traceback" not in outcome.err


def test_unions_are_tested_on_a_text_that_was_read(
    onesense: Run, gpt2_folder: Path, dictionary_folder: Path, run: Path, sentences: Path, tmp_path: Path
) -> None:
    flags = ("--tests", "union", "--senses", run, "--pairs", 20, "--contexts", 16, "--text", sentences)
    folder = tmp_path / "validate"
    outcome = onesense(
        "senses",
        "validate",
        gpt2_folder,
        "--sae-path",
        dictionary_folder,
        *flags,
        "--run-folder",
        folder,
        "--quiet",
    )
    assert outcome.code == 0, outcome.err
    assert "number of senses" in outcome.out
    stored = json.loads((folder / "validation.json").read_text())
    assert stored["union"]["pairs"] >= 20
    assert not (folder / "activity").exists()


def test_a_split_is_written_with_its_map(
    onesense: Run, dictionary_folder: Path, run: Path, sentences: Path, tmp_path: Path
) -> None:
    outcome = onesense(
        "senses", "split", "--run-folder", run, "--to", tmp_path / "new", "--features", "3,7",
        "--sae-path", dictionary_folder, "--text", sentences, "--quiet",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "On held-out text: FVU" in outcome.out
    found = read_split_map(tmp_path / "new")
    assert {one.feature for one in found.refused} | {found.parent_of(one) for one in found.features} == {3, 7}
    assert load_dictionary(path=tmp_path / "new").d_sae >= load_dictionary(path=dictionary_folder).d_sae


def test_bad_input_of_validate(onesense: Run) -> None:
    _told(onesense("senses", "validate", "demo", "--tests", "guess"), "no test 'guess'", "planted")
    _told(onesense("senses", "validate", "demo", "--tests", "widths"), "only one was named", "--width-of")


def test_bad_input_of_split(
    onesense: Run, run: Path, dictionary_folder: Path, sentences: Path, tmp_path: Path
) -> None:
    _told(onesense("senses", "split", "--run-folder", tmp_path, "--to", tmp_path / "new"), "run.json", code=3)
    known = ("--run-folder", run, "--sae-path", dictionary_folder, "--text", sentences, "--quiet")
    new = ("--to", tmp_path / "new")
    _told(onesense("senses", "split", *known, *new, "--features", "one"), "no list of features")
    _told(onesense("senses", "split", *known, *new, "--features", "100000"), "no feature 100000")
    assert not (tmp_path / "new").exists()


def test_a_split_is_refused_before_the_work_where_its_folder_holds_something(
    onesense: Run, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("a letter")
    # Without --text the measured text would not be found: the folder is looked at first.
    _told(onesense("senses", "split", "--run-folder", run, "--to", tmp_path), "exists already")
    assert (tmp_path / "mine").read_text() == "a letter"


def test_bad_input_of_study(onesense: Run, run: Path, tmp_path: Path) -> None:
    _told(onesense("study", "--senses", run, "--groups", "few"), "no sizes of groups")
    _told(onesense("study", "--senses", tmp_path), "run.json", code=3)
    outcome = onesense("study", "--senses", run, "--sae-path", tmp_path, "--sae-path", tmp_path)
    _told(outcome, "2 folders of dictionaries were given for 1 runs")
