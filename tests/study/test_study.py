"""A study from end to end on a tiny model: what it holds, resume to the same numbers, what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from onesense.bias.benchmark import Item, ScoredBenchmark, Split
from onesense.bias.benchmarks.occupations import Occupations
from onesense.bias.metric import Direction, Metric, Role, line_of, spread
from onesense.bias.scoring.requests import Request, Score, Scorer
from onesense.debias.controls.documents import fitting_requests
from onesense.debias.divergence import KlMeter
from onesense.debias.find import FindSettings
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.senses.sense_table import SenseTable
from onesense.senses.unit_sets import UnitSet, feature_units, written_norms
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.study import effects as effects_module
from onesense.study import groups as groups_module
from onesense.study.study import Study, StudySettings, study
from onesense.study.units import StudiedSet
from small_recipes import dictionary_at


class Letters(ScoredBenchmark):
    """Pairs of short texts, the second a letter apart."""

    about = "Pairs of letters."
    criticism = "None: nobody knows it."
    key = title = "letters"
    split = Split.HELD_OUT
    metrics = (
        Metric(
            "spread", "spread", "nats", Direction.LOWER, Role.BIAS, "A number.", line_of("x", "gap"), spread
        ),
    )

    def items(self, scorer: Scorer) -> list[Item]:
        return [
            Item(
                f"{n}",
                f"cluster {n % 9}",
                (Request(f"the {chr(97 + n)} a"), Request(f"the {chr(97 + n)} b")),
                {"x": float(n % 5)},
            )
            for n in range(18)
        ]

    def columns(self, item: Item, scores: Sequence[Score]) -> dict[str, float]:
        return {"gap": scores[0].logprob - scores[1].logprob}


SETTINGS = StudySettings(
    find=FindSettings(templates=1, people_templates=0, passages=6, passage_tokens=24),
    group_sizes=(3, 40),
    group_kl=1e-4,
    benchmarks=(Letters(),),
    draws=20,
    group_draws=50,
)


def senses(units: int, seed: int) -> SenseTable:
    generator = np.random.default_rng(seed)
    several = generator.uniform(size=units).astype(np.float32)
    several[0] = np.nan
    number = np.where(several > 0.5, 2, 1).astype(np.int32)
    number[0] = 0
    return SenseTable(
        number=number,
        effective=(1 + several).astype(np.float32),
        several=several,
        separation=np.where(number > 1, 0.2, np.nan).astype(np.float32),
        token_entropy=several,
        density=generator.uniform(0.01, 0.3, units).astype(np.float32),
        documents=np.full(units, 5, np.int32),
        position=np.tile(np.arange(4, dtype=np.int32), (units, 1)),
        value=np.tile(np.arange(1, 5, dtype=np.float32), (units, 1)),
        label=np.zeros((units, 4), np.int8),
    )


def neurons(model: LanguageModel, layer: int) -> UnitSet:
    point = HookPoint(layer, "mlp.hook_post")
    width = model.resolve(point).width
    axes = torch.eye(width)
    dictionary = Dictionary(
        architecture=Architecture.JUMPRELU,
        hook_point=point,
        W_enc=axes,
        b_enc=torch.zeros(width),
        W_dec=axes,
        b_dec=torch.zeros(width),
        threshold=torch.zeros(width),
    )
    return UnitSet("neurons", dictionary, torch.zeros(width, model.hf.config.hidden_size))


@pytest.fixture(scope="module")
def sets(tiny_llama: LanguageModel) -> list[StudiedSet]:
    features = feature_units(dictionary_at("blocks.1.hook_resid_post"))
    twin = feature_units(dictionary_at("blocks.1.hook_resid_post", seed=3), "wider")
    own = neurons(tiny_llama, 1)
    return [StudiedSet(one, senses(one.n_units, seed)) for seed, one in enumerate((features, twin, own))]


@pytest.fixture(scope="module")
def studied(
    tiny_llama: LanguageModel, sets: list[StudiedSet], tmp_path_factory: pytest.TempPathFactory
) -> Study:
    return study(tiny_llama, sets, tmp_path_factory.mktemp("study") / "a", SETTINGS)


def test_every_set_has_its_rows_and_relations(studied: Study, sets: list[StudiedSet]) -> None:
    result = studied.result
    assert [one.name for one in result.sets] == ["features", "wider", "neurons"]
    assert [len(one) for one in studied.units] == [one.units.n_units for one in sets]
    assert len(result.relations) == 3 * 3 * 2
    for one in result.relations:
        assert one.units + one.left_out == next(s.units for s in result.sets if s.name == one.unit_set)
        assert one.p_holm is not None
        assert one.p_holm >= one.p
        assert one.rho.low <= one.rho.value <= one.rho.high
    for units in studied.units:
        assert (units.bias > 0).any()
        assert (units.kl > 0).any()
        assert (units.fact >= 0).all()
        assert (np.abs(units.stereotype) <= units.bias + 1e-9).all()


def test_effects_are_what_small_changes_do(
    studied: Study, sets: list[StudiedSet], tiny_llama: LanguageModel
) -> None:
    find = SETTINGS.find
    meter = KlMeter(tiny_llama, fitting_requests(tiny_llama, passages=6, tokens=find.passage_tokens))
    units, dictionary = studied.units[0], sets[0].units.dictionary
    measured = [
        meter.measure([EditGroup(dictionary, [Edit(feature=unit, operation=Operation.SCALE, value=0.9)])])
        for unit in range(len(units))
    ]
    # Fisher scores are drawn and six passages are few: sizes differ, the order hardly does.
    assert spearmanr(units.kl, measured).statistic > 0.8
    assert units.kl.mean() * 0.01 == pytest.approx(np.mean(measured), rel=0.5)


def test_groups_are_brought_to_one_kl(studied: Study) -> None:
    found = studied.result.groups
    assert {one.size for one in found} <= {3, 40}
    assert {one.unit_set for one in found if one.size == 3} == {"features", "wider", "neurons"}
    for one in found:
        assert one.single.kl == pytest.approx(one.target_kl, rel=0.06)
        assert one.several.kl == pytest.approx(one.target_kl, rel=0.06)
        assert one.single.effective < one.several.effective
        assert [difference.metric for difference in one.differences] == ["spread"]
        assert all(difference.p_holm is not None for difference in one.differences)
    assert any("groups of 40" in note for note in studied.result.notes)


def test_what_was_measured_is_not_measured_again(
    studied: Study, sets: list[StudiedSet], tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_args: Any, **_options: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(effects_module, "contrast_attributions", never)
    monkeypatch.setattr(groups_module, "at_equal_cost", never)
    again = study(tiny_llama, sets, studied.run.path, SETTINGS)
    assert repr(again.result) == repr(studied.result)


def test_an_interruption_changes_nothing(
    studied: Study,
    sets: list[StudiedSet],
    tiny_llama: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def interrupted(*_args: Any, **_options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(groups_module, "measure_variants", interrupted)
        with pytest.raises(KeyboardInterrupt):
            study(tiny_llama, sets, tmp_path / "b", SETTINGS)
    assert repr(study(tiny_llama, sets, tmp_path / "b", SETTINGS).result) == repr(studied.result)


def test_another_study_in_the_same_folder_is_refused(
    studied: Study, sets: list[StudiedSet], tiny_llama: LanguageModel
) -> None:
    with pytest.raises(IncompatibleError):
        study(tiny_llama, sets[:1], studied.run.path, SETTINGS)
    other = [replace(one, senses=senses(one.units.n_units, 99)) for one in sets]
    with pytest.raises(IncompatibleError):
        study(tiny_llama, other, studied.run.path, SETTINGS)


def test_sets_need_names_of_their_own(
    sets: list[StudiedSet], tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        study(tiny_llama, [sets[0], sets[0]], tmp_path, SETTINGS)
    with pytest.raises(ConfigurationError, match="none"):
        study(tiny_llama, [], tmp_path, SETTINGS)


def test_senses_of_another_number_of_units_are_refused(sets: list[StudiedSet]) -> None:
    with pytest.raises(IncompatibleError, match="do not belong"):
        StudiedSet(sets[0].units, senses(5, 0))


@pytest.mark.parametrize(
    "changes", [{"draws": 0}, {"group_sizes": (0,)}, {"group_sizes": (5, 5)}, {"group_kl": 0.0}, {"seed": -1}]
)
def test_settings_that_cannot_be_used_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        StudySettings(**changes)


def test_groups_are_never_compared_on_what_effects_were_found_on() -> None:
    with pytest.raises(ConfigurationError, match="held-out"):
        StudySettings(benchmarks=(Occupations(Split.TUNE),))


def test_neurons_are_as_long_as_what_they_write(tiny_llama: LanguageModel) -> None:
    one = neurons(tiny_llama, 1)
    norms = written_norms(tiny_llama, one)
    weights = [w for name, w in tiny_llama.hf.named_parameters() if "layers.1.mlp.down_proj" in name]
    assert torch.allclose(norms, weights[0].norm(dim=0), atol=1e-5)
