"""Search: never worse than its start, resumed to the same bytes, interrupted, and with NaN."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onesense.bias.scoring.requests import Request
from onesense.debias.contrasts import Contrast
from onesense.debias.objective import BatchSizes, Losses, Objective
from onesense.debias.search import Search, SearchResult, SearchSettings, search, search_for
from onesense.debias.search_space import SearchSpace
from onesense.debias.selection import Feature
from onesense.debias.tunable import Tunable
from onesense.errors import ConfigurationError, NumericalError
from onesense.model.language_model import LanguageModel
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from small_recipes import dictionary_at

PEOPLE = [f"{letter}{letter}" for letter in "abcdefghijkl"]
TEMPLATES = ("The {} said that", "When the {} came,")
FEATURES = [Feature(0, 3), Feature(0, 9), Feature(0, 30), Feature(1, 4), Feature(1, 20), Feature(1, 7)]
START = (-0.4, 0.5, -0.3, 0.8, 0.0, -0.6)
FEW = SearchSettings(trials=9, batches=1, alone=2)
BUDGET = 0.01


def _top_k(point: str, seed: int) -> Dictionary:
    return replace(dictionary_at(point, seed=seed), architecture=Architecture.TOPK, k=6)


DICTIONARIES = [_top_k("blocks.0.hook_resid_post", 0), _top_k("blocks.1.hook_resid_post", 1)]


def _tunable(model: LanguageModel, start: Sequence[float] = START, *, thresholds: bool = False) -> Tunable:
    amounts = torch.tensor(start)
    return Tunable(model, DICTIONARIES, FEATURES, amounts, torch.ones(len(FEATURES)), thresholds=thresholds)


@pytest.fixture(scope="module")
def objective(tiny_llama: LanguageModel) -> Objective:
    neutral = [
        Contrast(template.format(person), "s", "h", person, person, template, 0)
        for template in TEMPLATES
        for person in PEOPLE
    ]
    facts = [Contrast(f"The queen of {place} and", "s", "h", place, place, "kin", 1) for place in PEOPLE]
    passages = [Request("x", ids=tuple(range(20 + number, 40 + number))) for number in range(4)]
    sizes = BatchSizes(people=12, groups=2, facts=8, passages=2)
    return Objective(tiny_llama, [neutral], facts, passages, start=1, seed=0, sizes=sizes)


def _search(
    tunable: Tunable, objective: Objective, wanted: SearchSettings = FEW, **options: Any
) -> SearchResult:
    importance = tunable.change.detach().abs().tolist()
    told = {"budget": BUDGET, "importance": importance, "seed": 0, **options}
    return search(tunable, objective, settings=wanted, **told)


def _value(losses: Losses, wanted: SearchSettings) -> float:
    over = max(0.0, float(losses.kl) / BUDGET - 1)
    return float(losses.bias) + wanted.facts_weight * float(losses.facts) + over


def test_the_tunable_gets_the_best_amounts(tiny_llama: LanguageModel, objective: Objective) -> None:
    tunable = _tunable(tiny_llama, thresholds=True)
    before = objective.measure(0, tunable.edited())
    result = _search(tunable, objective, replace(FEW, trials=14))
    assert result.values[0] == pytest.approx(_value(before, FEW), rel=1e-6)
    after = _value(objective.measure(0, tunable.edited()), FEW)
    values = [value for value in result.values if value is not None]
    assert after == pytest.approx(min(values), rel=1e-6)
    assert after == result.values[result.best]
    # What the sampler proposed is better than both planned trials.
    assert min(values) < min(values[:2])
    assert result.best >= 2
    assert result.within_budget >= 1


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_the_best_is_never_worse_than_the_start(
    tiny_llama: LanguageModel, objective: Objective, start: list[float], seed: int
) -> None:
    tunable = _tunable(tiny_llama, start)
    before = _value(objective.measure(0, tunable.edited()), FEW)
    _search(tunable, objective, replace(FEW, trials=4), seed=seed)
    assert _value(objective.measure(0, tunable.edited()), FEW) <= before * (1 + 1e-6)


def test_an_interrupted_search_keeps_its_best_and_ends_in_the_same_bytes(
    tiny_llama: LanguageModel, objective: Objective, tmp_path: Path
) -> None:
    whole = _tunable(tiny_llama, thresholds=True)
    result = _search(whole, objective, checkpoint=tmp_path / "whole.json", identity="a")

    def interrupt(done: int, _wanted: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    parts = _tunable(tiny_llama, thresholds=True)
    path = tmp_path / "parts.json"
    with pytest.raises(KeyboardInterrupt):
        _search(parts, objective, checkpoint=path, identity="a", report=interrupt)
    best_of_seven = min(value for value in result.values[:7] if value is not None)
    assert _value(objective.measure(0, parts.edited()), FEW) == pytest.approx(best_of_seven, rel=1e-6)
    told: list[int] = []
    parts = _tunable(tiny_llama, thresholds=True)
    again = _search(
        parts, objective, checkpoint=path, identity="a", report=lambda done, _wanted: told.append(done)
    )
    assert told == [8, 9]
    assert again == result
    assert path.read_bytes() == (tmp_path / "whole.json").read_bytes()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, parts.state()[name]), name


def test_trials_of_something_else_or_a_damaged_file_are_not_used(
    tiny_llama: LanguageModel, objective: Objective, tmp_path: Path
) -> None:
    path = tmp_path / "trials.json"
    few = replace(FEW, trials=2)

    def made(identity: str, start: Sequence[float] = START, **options: Any) -> int:
        told: list[int] = []
        _search(
            _tunable(tiny_llama, start),
            objective,
            few,
            checkpoint=path,
            identity=identity,
            report=lambda done, _wanted: told.append(done),
            **options,
        )
        return len(told)

    assert made("a") == 2
    assert made("a") == 0
    assert made("b") == 2
    assert made("b", (0.1, *START[1:])) == 2
    assert made("b", budget=0.02) == 2
    path.write_bytes(path.read_bytes()[:-9])
    assert made("b") == 2


def test_nan_is_left_out_and_told(
    tiny_llama: LanguageModel, objective: Objective, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = Objective.measure
    calls: list[int] = []

    def sometimes(self: Objective, step: int, edits: Any) -> Losses:
        calls.append(step)
        losses = real(self, step, edits)
        return losses._replace(kl=losses.kl * float("nan")) if len(calls) in (1, 5) else losses

    monkeypatch.setattr(Objective, "measure", sometimes)
    tunable = _tunable(tiny_llama)
    path = tmp_path / "trials.json"
    result = _search(tunable, objective, checkpoint=path)
    assert result.failed == 2
    assert result.values[0] is None
    assert result.values[4] is None
    assert "2 of 9 trials gave NaN" in " ".join(result.notes())
    assert [trial["losses"] is None for trial in json.loads(path.read_text())["trials"]].count(True) == 2
    assert result.best not in (0, 4)
    assert bool(tunable.change.isfinite().all())


def test_nan_in_every_trial_is_an_error_and_the_start_is_kept(
    tiny_llama: LanguageModel, objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Losses(*(torch.tensor(float("nan")) for _ in range(3)))
    monkeypatch.setattr(Objective, "measure", lambda *_: broken)
    tunable = _tunable(tiny_llama)
    with pytest.raises(NumericalError, match="All 9 trials"):
        _search(tunable, objective)
    assert torch.equal(tunable.change.detach(), torch.tensor(START))


def test_a_budget_that_no_trial_keeps_is_told(
    tiny_llama: LanguageModel, objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Objective.measure

    def dear(self: Objective, step: int, edits: Any) -> Losses:
        return real(self, step, edits)._replace(kl=torch.tensor(5.0))

    monkeypatch.setattr(Objective, "measure", dear)
    result = _search(_tunable(tiny_llama), objective)
    assert result.within_budget == 0
    assert "no trial kept to the budget" in " ".join(result.notes())


def test_dimensions_are_few_features_alone_and_the_others_by_dictionary_and_sign(
    tiny_llama: LanguageModel,
) -> None:
    tunable = _tunable(tiny_llama, thresholds=True)
    space = SearchSpace(tunable, [0.1, 0.2, 0.3, 9.0, 99.0, 0.1], alone=2)
    # Feature 20 of the second dictionary does not change, and has no dimension whatever it counts.
    names = {"0/less", "0/more", "0/30", "1/4", "1/less", "0/threshold", "1/threshold"}
    assert set(space.start) == set(space.around(0.5)) == names
    assert (space.around(0.5)["1/4"].low, space.around(0.5)["1/4"].high) == (0.0, 1.0)
    space.take({**space.start, "0/less": 0.5, "1/4": 2.0, "1/threshold": 0.25})
    torch.testing.assert_close(tunable.change.detach(), torch.tensor([-0.2, 0.5, -0.3, 1.6, 0.0, -0.6]))
    torch.testing.assert_close(tunable.threshold.detach(), torch.tensor([0.0, 0.0, 0.0, 0.25, 0.25, 0.25]))
    space.take(space.start)
    torch.testing.assert_close(tunable.change.detach(), torch.tensor(START))


def test_auto_searches_where_edits_move_what_a_top_k_dictionary_keeps() -> None:
    relu = dictionary_at("blocks.0.hook_resid_post")
    assert search_for("auto", [relu, relu]) is Search.GRADIENT
    assert search_for("auto", DICTIONARIES[:1]) is Search.GRADIENT
    assert search_for("auto", [relu, DICTIONARIES[1]]) is Search.BOTH
    assert search_for("gradient", DICTIONARIES) is Search.GRADIENT
    assert search_for("trials", [relu]) is Search.TRIALS
    with pytest.raises(ConfigurationError, match="no search 'random'"):
        search_for("random", DICTIONARIES)


@pytest.mark.parametrize("wanted", [{"trials": 0}, {"batches": 0}, {"alone": -1}])
def test_settings_that_cannot_be_used_are_refused(wanted: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="cannot be made"):
        SearchSettings(**wanted)
