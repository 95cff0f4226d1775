"""Tuning: what it makes small, that it goes on after an interruption to the same bytes, and what NaN does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.contrasts import Contrast
from onesense.debias.forward import first_edited_block
from onesense.debias.objective import BatchSizes, Objective
from onesense.debias.selection import Feature
from onesense.debias.tunable import Tunable
from onesense.debias.tune import StepReport, TuneSettings, tune
from onesense.errors import ConfigurationError, NumericalError
from onesense.model.language_model import LanguageModel
from small_recipes import dictionary_at

PEOPLE = [f"{letter}{letter}" for letter in "abcdefghijkl"]
TEMPLATES = ("The {} said that", "When the {} came,", "A {} lost")
PASSAGES = [Request("x", ids=tuple(range(20 + number, 40 + number))) for number in range(8)]
DICTIONARIES = [dictionary_at("blocks.0.hook_resid_post"), dictionary_at("blocks.1.hook_resid_post", seed=1)]
FEATURES = [Feature(0, 3), Feature(0, 9), Feature(1, 4), Feature(1, 20)]


def _neutral() -> list[Contrast]:
    return [
        Contrast(template.format(person), "s", "h", person, person, template, 0)
        for template in TEMPLATES
        for person in PEOPLE
    ]


def _facts() -> list[Contrast]:
    return [
        Contrast(f"The {who} of {place} and", "s", "h", place, place, "kin", sign)
        for place in PEOPLE
        for who, sign in (("queen", 1), ("king", -1))
    ]


def _tunable(model: LanguageModel, *, thresholds: bool = False) -> Tunable:
    return Tunable(
        model,
        DICTIONARIES,
        FEATURES,
        torch.tensor([-0.2, 0.1, 0.0, 0.3]),
        torch.ones(4),
        thresholds=thresholds,
    )


def _objective(model: LanguageModel, *, resume: bool = True) -> Objective:
    return Objective(
        model,
        [_neutral()],
        _facts(),
        PASSAGES,
        start=1,
        seed=0,
        sizes=BatchSizes(people=12, groups=2, facts=8, passages=2),
        resume=resume,
    )


def test_losses_are_those_of_the_scorer(tiny_llama: LanguageModel) -> None:
    tunable, objective = _tunable(tiny_llama), _objective(tiny_llama)
    losses = objective.backward(0, tunable.edited, facts=1.0, kl=1.0)
    batch = objective._neutral_texts[0]
    before, after = (
        torch.tensor(
            [one.logprob - other.logprob for one, other in zip(scores[::2], scores[1::2], strict=True)]
        )
        for scores in ModelScorer(tiny_llama, [None, tunable.groups()]).score(
            [request for one in batch for request in one.requests()]
        )
    )

    def variance(values: torch.Tensor) -> float:
        rows = values.reshape(2, -1)
        return float((rows - rows.mean(1, keepdim=True)).mean(0).var())

    assert float(losses.bias) == pytest.approx(variance(after) / max(variance(before), 0.05), rel=1e-3)
    passages = objective._prose_texts[0]
    found = ModelScorer(tiny_llama, [None, tunable.groups()]).divergence(passages)[1]
    kl = sum(one.kl for one in found) / sum(one.positions for one in found)
    assert float(losses.kl) == pytest.approx(kl, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_a_kept_prefix_gives_the_same_gradients(
    tiny_model: Callable[[str], LanguageModel], family: str
) -> None:
    model = tiny_model(family)
    gradients = []
    for resume in (True, False):
        tunable = _tunable(model, thresholds=True)
        with torch.no_grad():
            tunable.threshold += 0.05
        _objective(model, resume=resume).backward(1, tunable.edited, facts=0.5, kl=3.0)
        gradients.append([parameter.grad for parameter in tunable.parameters])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert float(one.abs().sum()) > 0
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("room", [0, 1 << 30])
def test_kept_log_probabilities_are_those_made_anew(
    tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr("onesense.debias.objective._KEPT_BYTES", room)
    objective, tunable = _objective(tiny_llama), _tunable(tiny_llama)
    first, again = (objective.backward(1, tunable.edited, facts=0.5, kl=3.0) for _ in range(2))
    assert (objective._prose[1].base is not None) == (room > 0)
    assert torch.equal(first.kl, again.kl)
    monkeypatch.setattr("onesense.debias.objective._KEPT_BYTES", 1 << 30)
    kept = _objective(tiny_llama).backward(1, tunable.edited, facts=0.5, kl=3.0)
    assert torch.equal(first.kl, kept.kl)


def test_what_is_kept_stays_within_its_bytes(
    tiny_llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onesense.debias.objective._KEPT_BYTES", 1 << 30)
    objective, tunable = _objective(tiny_llama), _tunable(tiny_llama)
    objective.backward(0, tunable.edited, facts=0.5, kl=3.0)
    base = objective._prose[0].base
    assert base is not None
    monkeypatch.setattr("onesense.debias.objective._KEPT_BYTES", 2 * base.nbytes + base.nbytes // 2)
    limited = _objective(tiny_llama)
    for step in range(4):
        limited.backward(step, tunable.edited, facts=0.5, kl=3.0)
    assert [limited._prose[step].base is not None for step in range(4)] == [True, True, False, False]


def test_tuning_makes_the_objective_smaller(tiny_llama: LanguageModel) -> None:
    objective, tunable = _objective(tiny_llama), _tunable(tiny_llama)
    reports: list[StepReport] = []
    settings = TuneSettings(steps=60, learning_rate=0.05, facts_weight=0.1, price=0.1)
    tune(tunable, objective, budget=1.0, settings=settings, report=reports.append)
    assert [report.step for report in reports] == list(range(1, 61))
    assert reports[-1].bias < 0.8 * reports[5].bias


def test_a_dear_divergence_is_brought_under_its_budget(tiny_llama: LanguageModel) -> None:
    objective, tunable = _objective(tiny_llama), _tunable(tiny_llama)
    with torch.no_grad():
        tunable.change += 1.0
    settings = TuneSettings(steps=80, learning_rate=0.1, price=5.0)
    reports = tune(tunable, objective, budget=0.002, settings=settings)
    assert reports[-1].kl < 0.3 * reports[0].kl


def test_an_interrupted_tuning_goes_on_to_the_same_amounts(tiny_gpt2: LanguageModel, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(report: StepReport) -> None:
        if report.step == 13:
            raise Stop

    settings = TuneSettings(steps=25, learning_rate=0.05)
    objective = _objective(tiny_gpt2)
    whole, parts = _tunable(tiny_gpt2, thresholds=True), _tunable(tiny_gpt2, thresholds=True)
    tune(whole, objective, budget=0.01, settings=settings)
    path = tmp_path / "tune.safetensors"
    with pytest.raises(Stop):
        tune(parts, objective, budget=0.01, settings=settings, checkpoint=path, identity="a", report=stop)
    parts = _tunable(tiny_gpt2, thresholds=True)
    done = tune(parts, objective, budget=0.01, settings=settings, checkpoint=path, identity="a")
    assert done[0].step == 11  # from the last checkpoint, not from the start
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, parts.state()[name]), name


def test_a_checkpoint_of_something_else_or_a_damaged_one_is_not_used(
    tiny_gpt2: LanguageModel, tmp_path: Path
) -> None:
    path = tmp_path / "tune.safetensors"
    settings = TuneSettings(steps=10)
    objective = _objective(tiny_gpt2)
    tune(_tunable(tiny_gpt2), objective, budget=0.01, settings=settings, checkpoint=path, identity="a")
    other = tune(
        _tunable(tiny_gpt2), objective, budget=0.01, settings=settings, checkpoint=path, identity="b"
    )
    assert other[0].step == 1
    path.write_bytes(path.read_bytes()[:-7])
    again = tune(
        _tunable(tiny_gpt2), objective, budget=0.01, settings=settings, checkpoint=path, identity="b"
    )
    assert again[0].step == 1


def test_nan_is_undone_and_told_when_it_stays(
    tiny_gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, tunable = _objective(tiny_gpt2), _tunable(tiny_gpt2)
    real = Objective._kl
    steps: list[int] = []

    def sometimes(self: Objective, step: int, edits: object) -> torch.Tensor:
        steps.append(step)
        broken = step == 4 if len(steps) < 20 else True
        return real(self, step, edits) * (float("nan") if broken else 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(Objective, "_kl", sometimes)
    tune(tunable, objective, budget=0.01, settings=TuneSettings(steps=8))
    assert all(bool(parameter.isfinite().all()) for parameter in tunable.parameters)
    with pytest.raises(NumericalError, match="3 times in a row"):
        tune(tunable, objective, budget=0.01, settings=TuneSettings(steps=30))
    assert all(bool(parameter.isfinite().all()) for parameter in tunable.parameters)


def test_too_little_to_tune_on_is_said(tiny_gpt2: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="are too few"):
        Objective(tiny_gpt2, [_neutral()[:3]], _facts(), PASSAGES, start=1, seed=0)


def test_the_recipe_does_what_was_tuned(tiny_llama: LanguageModel) -> None:
    tunable = _tunable(tiny_llama, thresholds=True)
    with torch.no_grad():
        tunable.threshold += 0.2
    requests = [request for one in _neutral()[:6] for request in one.requests()]
    ready = ModelScorer(tiny_llama, [tunable.edited(), tunable.groups()]).score(requests)
    for one, other in zip(*ready, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    recipe = tunable.recipe(0.5)
    factors = {
        (part.hook_point, edit.feature): edit.amount
        for part in recipe.parts
        for edit in part.edits
        if edit.operation == "scale"
    }
    assert factors["blocks.0.hook_resid_post", 3] == pytest.approx(0.9)
    assert first_edited_block(tunable.edited()) == 1


def test_a_feature_that_does_not_change_is_left_out(tiny_llama: LanguageModel) -> None:
    recipe = _tunable(tiny_llama).recipe()
    assert [(edit.feature) for part in recipe.parts for edit in part.edits] == [3, 9, 20]
