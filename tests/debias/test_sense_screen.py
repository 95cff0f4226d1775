"""Features with several senses are left out; those that nobody measured are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onesense.debias.debias_run import DebiasRun
from onesense.debias.describe import describe
from onesense.debias.find import FindSettings
from onesense.debias.sense_screen import read_screen
from onesense.debias.settings import DebiasSettings
from onesense.debias.tune import TuneSettings
from onesense.engine.stages import Silent
from onesense.errors import IncompatibleError, NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary, Origin
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.senses.sense_table import SenseTable
from onesense.store.run_folder import RunFolder
from small_recipes import dictionary_at


def _named(point: str, fingerprint: str) -> Dictionary:
    origin = Origin(fingerprint=fingerprint)
    return replace(dictionary_at(point), origin=origin)


def _run(path: Path, fingerprint: str, number: np.ndarray) -> str:
    run = RunFolder.create_or_resume(
        path,
        command="senses measure",
        configuration={"dictionary": "somewhere"},
        provenance={"inputs": {"dictionary": {"fingerprint": fingerprint}}, "seeds": {"root": 0}},
    )
    units = len(number)
    unknown = np.full(units, np.nan, np.float32)
    contexts = np.zeros((units, 4), np.float32)
    table = SenseTable(
        number.astype(np.int32),
        unknown,
        unknown,
        unknown,
        unknown,
        unknown,
        np.zeros(units, np.int32),
        contexts.astype(np.int32),
        contexts,
        contexts.astype(np.int8),
    )
    run.write_result("senses/features", table.to_tensors())
    return str(path)


def test_the_runs_may_come_in_any_order_and_one_may_be_missing(tmp_path: Path) -> None:
    dictionaries = [_named(f"blocks.{layer}.hook_resid_post", f"of {layer}") for layer in range(3)]
    generator = np.random.default_rng(0)
    numbers = [generator.integers(0, 4, 48) for _ in range(2)]
    runs = [_run(tmp_path / "2", "of 2", numbers[1]), _run(tmp_path / "0", "of 0", numbers[0])]
    screen = read_screen(runs, dictionaries)
    np.testing.assert_array_equal(screen.number[:48], numbers[0])
    np.testing.assert_array_equal(screen.number[48:96], 0)
    np.testing.assert_array_equal(screen.number[96:], numbers[1])
    np.testing.assert_array_equal(screen.polysemantic, screen.number > 1)
    assert screen.senses(50) is None
    assert screen.senses(96 + int(np.argmax(numbers[1]))) == 3
    assert len(screen.fingerprints) == 2


def test_without_a_run_nothing_is_screened() -> None:
    screen = read_screen((), [_named("blocks.0.hook_resid_post", "any")])
    assert not screen.polysemantic.any()
    assert screen.fingerprints == ()


def test_senses_of_another_dictionary_are_refused(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", "of another", np.ones(48))
    with pytest.raises(IncompatibleError, match="none of the dictionaries"):
        read_screen([run], [_named("blocks.0.hook_resid_post", "mine")])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not a run folder"):
        read_screen([str(tmp_path)], [_named("blocks.0.hook_resid_post", "mine")])


def test_a_run_edits_only_features_with_one_sense(tmp_path: Path, tiny_llama: LanguageModel) -> None:
    made = dictionary_at("blocks.0.hook_resid_post")
    dictionary = load_dictionary(path=write_saelens(made, tmp_path / "dictionary"))
    kept = [3, 7, 11, 20, 31]
    number = np.full(48, 2)
    number[kept] = 1
    measured = _run(tmp_path / "senses", str(dictionary.origin.fingerprint), number)
    plain = DebiasSettings(
        budgets=(0.01,),
        max_features=4,
        find=FindSettings(
            templates=1, people_templates=1, passages=4, passage_tokens=16, sentences=0, max_density=1.0
        ),
        tune=TuneSettings(steps=1),
        tuning_passages=4,
        pairs=0,
        calibration_passages=2,
    )
    screened = DebiasRun(
        tiny_llama, [dictionary], tmp_path / "run", replace(plain, senses=(measured,)), Silent()
    )
    found = screened.find()
    assert np.flatnonzero(found.allowed).tolist() == kept
    recipe = screened.recipe(0.01, found)
    edited = {edit.feature for part in recipe.parts for edit in part.edits}
    assert edited
    assert edited <= set(kept)
    assert any("43 left out because they have more than one sense" in one for one in screened.screened(found))
    described = describe(tiny_llama, [dictionary], found, [3, 4], screened.screen)
    assert [one.senses for one in described] == [1, 2]
    with pytest.raises(IncompatibleError, match="made otherwise"):
        DebiasRun(tiny_llama, [dictionary], tmp_path / "run", plain, Silent())
