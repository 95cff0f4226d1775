"""How many senses each unit of a model has, in a run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from onesense.engine.stages import Silent
from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError, NumericalError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.senses import measure as module
from onesense.senses.measure import (
    Measured,
    MeasureSettings,
    SenseMeasurement,
    measure_senses,
    open_measured,
)
from onesense.senses.unit_sets import UnitSet
from onesense.store.run_folder import RunFolder
from senses.planted_contexts import FEATURES, Planted, activity_of, documents, quick_judge, sparse_dictionary
from tiny_dictionaries import random_dictionary
from tiny_models import make_byte_tokenizer, tiny_hf

SETS = ["features", "neurons", "residual basis"]
NEVER, ALWAYS, ALONE = FEATURES, FEATURES + 1, FEATURES + 2


@pytest.fixture(scope="module", autouse=True)
def _quick_judge() -> Iterator[None]:
    with quick_judge():
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    path.write_text("".join(json.dumps({"text": one.text}) + "\n" for one in documents()))
    return path


@pytest.fixture(scope="module")
def settings(text: Path) -> MeasureSettings:
    return MeasureSettings(text=str(text), tokens=20_000, context_size=64, contexts=16, check=False)


@pytest.fixture(scope="module")
def dictionary(tiny_llama: LanguageModel) -> Dictionary:
    return sparse_dictionary(tiny_llama)


@pytest.fixture(scope="module")
def measured(
    tiny_llama: LanguageModel,
    dictionary: Dictionary,
    settings: MeasureSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Measured:
    return measure_senses(tiny_llama, dictionary, tmp_path_factory.mktemp("runs") / "run", settings)


def _files(run: Path) -> dict[str, bytes]:
    names = sorted(path for path in run.rglob("*") if path.suffix in (".safetensors", ".json"))
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in names}


def test_every_unit_is_measured(measured: Measured) -> None:
    assert list(measured.tables) == SETS
    assert [len(one.number) for one in measured.tables.values()] == [120, 48, 32]
    for table in measured.tables.values():
        assert table.known.any()
        assert (table.effective[table.known] >= 1 - 1e-6).all()
        assert (table.effective[table.known] <= table.number[table.known] + 1e-5).all()
        assert np.isnan(table.effective[~table.known]).all()
        assert (table.label.max(1)[table.known] + 1 == table.number[table.known]).all()


def test_a_unit_that_never_fires_has_no_number_and_one_that_always_fires_has(measured: Measured) -> None:
    table = measured.tables["features"]
    assert not table.known[-2]
    assert (table.density[-2], table.documents[-2]) == (0, 0)
    assert (table.position[-2] == -1).all()
    assert table.known[-1]
    assert table.density[-1] == 1
    assert (table.position[-1] >= 0).all()


def test_the_run_is_read_without_a_model(measured: Measured) -> None:
    text, tables = open_measured(RunFolder.open(measured.run.path))
    assert_array_equal(text.token, measured.measurement.activity.token)
    for name, table in measured.tables.items():
        assert_array_equal(tables[name].number, table.number)


def test_an_interrupted_measurement_goes_on_and_ends_in_the_same_bytes(
    tiny_llama: LanguageModel,
    dictionary: Dictionary,
    settings: MeasureSettings,
    measured: Measured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sense_table = module.sense_table
    made: list[int] = []

    def interrupted(*arguments: Any) -> Any:
        made.append(1)
        if len(made) == 2:
            raise InterruptedError
        return sense_table(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "sense_table", interrupted)
        with pytest.raises(InterruptedError):
            measure_senses(tiny_llama, dictionary, tmp_path / "run", settings)
    assert RunFolder.open(tmp_path / "run").has_result("senses/features")
    assert not RunFolder.open(tmp_path / "run").has_result("senses/neurons")
    measure_senses(tiny_llama, dictionary, tmp_path / "run", settings)
    assert _files(tmp_path / "run") == _files(measured.run.path)


def test_a_finished_run_is_read_and_not_made_again(
    tiny_llama: LanguageModel,
    dictionary: Dictionary,
    settings: MeasureSettings,
    measured: Measured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_arguments: Any, **_named: Any) -> Any:
        raise InterruptedError

    monkeypatch.setattr(module, "fit_ruler", refused)
    before = _files(measured.run.path)
    again = measure_senses(tiny_llama, dictionary, measured.run.path, settings)
    assert_array_equal(again.tables["neurons"].number, measured.tables["neurons"].number)
    assert _files(measured.run.path) == before


def test_a_run_of_something_else_is_refused(
    tiny_llama: LanguageModel, settings: MeasureSettings, measured: Measured, tmp_path: Path
) -> None:
    other = sparse_dictionary(tiny_llama, seed=1)
    with pytest.raises(IncompatibleError, match="fingerprint"):
        measure_senses(tiny_llama, other, measured.run.path, settings)
    same = sparse_dictionary(tiny_llama)
    with pytest.raises(IncompatibleError, match="contexts: 16 there, 18 now"):
        measure_senses(tiny_llama, same, measured.run.path, replace(settings, contexts=18))
    other_run = RunFolder.create_or_resume(tmp_path / "x", command="extract", configuration={}, provenance={})
    with pytest.raises(IncompatibleError, match="command"):
        measure_senses(tiny_llama, same, other_run.path, settings)
    with pytest.raises(NotFoundError, match="senses/features"):
        open_measured(other_run)


def test_damaged_weights_are_told(settings: MeasureSettings, dictionary: Dictionary, tmp_path: Path) -> None:
    model = LanguageModel.from_hf(tiny_hf("llama"), make_byte_tokenizer(), "damaged")
    with torch.no_grad():
        model.hf.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    for others in ((), ("neurons",)):
        with pytest.raises(NumericalError, match="NaN or infinity"):
            measure_senses(model, dictionary, tmp_path / f"{len(others)}", replace(settings, others=others))


def test_too_little_text_is_told(
    tiny_llama: LanguageModel, dictionary: Dictionary, settings: MeasureSettings, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="fire often enough"):
        measure_senses(tiny_llama, dictionary, tmp_path / "run", replace(settings, tokens=300, others=()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"contexts": 15}, "too few"),
        ({"tokens": 0}, "too few"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"threshold": float("nan")}, "between 0 and 1"),
        ({"others": ("neuron",)}, "no units called 'neuron'"),
    ],
)
def test_bad_settings_are_told(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MeasureSettings(**wrong)


def test_the_judge_is_fitted_for_halves_down_to_eight() -> None:
    assert MeasureSettings(contexts=64).sizes == (64, 32, 16, 8)
    assert MeasureSettings(contexts=20).sizes == (20, 10)


def test_contexts_of_one_document_give_no_number(world: Planted, tmp_path: Path) -> None:
    """Planted units: one silent, one that fires everywhere, one that has all its contexts in one document."""
    positions = len(world.feature)
    latents = np.concatenate([world.latents[:, :FEATURES], np.zeros((positions, 3), np.float32)], axis=1)
    latents[:, ALWAYS] = 1
    latents[1000:2000:33, ALONE] = 1
    document = np.arange(positions) // 60
    document[1000:2000] = 0
    activity = activity_of(
        {"features": latents}, world.activity.rows(np.arange(positions)) * 0.25, document=document
    )
    directions = torch.nn.functional.normalize(torch.tensor(world.directions[: FEATURES + 3]), dim=1)
    units = UnitSet("features", random_dictionary(d_in=32, d_sae=FEATURES + 3), directions)
    run = RunFolder.create_or_resume(tmp_path / "run", command="x", configuration={}, provenance={})
    measurement = SenseMeasurement(run, MeasureSettings(contexts=16, others=()), [units], activity)
    table = measurement.table(units, Silent())
    assert table.documents[ALONE] == 1
    assert (table.position[ALONE] >= 0).all()
    assert table.number[[NEVER, ALONE]].tolist() == [0, 0]
    assert np.isnan(table.several[[NEVER, ALONE]]).all()
    assert (table.label[ALONE] == -1).all()
    assert table.known[ALWAYS]
    assert table.known[:FEATURES].all()
    assert table.share_polysemantic() < 0.2
