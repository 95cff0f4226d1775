"""What the Pareto front shows: spread, slope and facts, against whole passes and textbook formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onesense.bias.benchmark import Split
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.contrasts import Contrast, fact_contrasts, occupation_contrasts
from onesense.debias.tune_measures import TuneMeter
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Operation
from onesense.steer.intervention import EditGroup
from small_recipes import group_of

POINT = "blocks.1.hook_resid_post"
EVERY_FACT = 40


def _log_odds(model: LanguageModel, contrasts: list[Contrast], groups: list[EditGroup]) -> list[list[float]]:
    """Of the unedited and of the edited model, each text scored in a pass of its own."""
    requests = [request for one in contrasts for request in one.requests()]
    scores = ModelScorer(model, [None, groups]).score(requests)
    return [
        [woman.logprob - man.logprob for woman, man in zip(side[::2], side[1::2], strict=True)]
        for side in scores
    ]


def _by_person(contrasts: list[Contrast], log_odds: list[float]) -> dict[str, float]:
    several: dict[str, list[float]] = {}
    for one, value in zip(contrasts, log_odds, strict=True):
        several.setdefault(one.person, []).append(value)
    return {person: sum(values) / len(values) for person, values in several.items()}


@pytest.fixture(scope="module")
def groups() -> list[EditGroup]:
    return [group_of(POINT, Operation.SCALE, 4.0)]


@pytest.mark.parametrize("templates", [1, 2])
def test_measures_are_those_of_whole_passes(
    tiny_llama: LanguageModel, groups: list[EditGroup], templates: int
) -> None:
    measures = TuneMeter(tiny_llama, 1, templates=templates, every_fact=EVERY_FACT).measure(groups)
    neutral = occupation_contrasts((Split.TUNE,))
    every = list(dict.fromkeys(one.group for one in neutral))
    kept = {every[0], every[(len(every) // templates) * (templates - 1)]}
    neutral = [one for one in neutral if one.group in kept]
    share = {one.person: one.women_percent for one in neutral}
    spreads, slopes = [], []
    for side in _log_odds(tiny_llama, neutral, groups):
        people = _by_person(neutral, side)
        spreads.append(np.std(list(people.values())))
        slopes.append(np.polyfit([share[person] for person in people], list(people.values()), 1)[0])
    assert measures.spread == pytest.approx(spreads[1] / spreads[0], rel=1e-4)
    assert measures.slope == pytest.approx(slopes[1] / slopes[0], rel=1e-3)
    facts = fact_contrasts()[::EVERY_FACT]
    margins = [
        sum(one.sign * value for one, value in zip(facts, side, strict=True))
        for side in _log_odds(tiny_llama, facts, groups)
    ]
    assert measures.facts == pytest.approx(margins[1] / margins[0], rel=1e-3)
    assert abs(measures.spread - 1) > 1e-3  # the edit does something


def test_nothing_edited_is_one_exactly(tiny_llama: LanguageModel) -> None:
    meter = TuneMeter(tiny_llama, 1, templates=1, every_fact=EVERY_FACT)
    assert meter.measure([]) == (1.0, 1.0, 1.0)
    assert meter.measure([group_of(POINT, Operation.SCALE, 1.0)]).spread == pytest.approx(1.0, abs=1e-6)


def test_facts_are_left_out_where_nobody_asks(tiny_llama: LanguageModel, groups: list[EditGroup]) -> None:
    meter = TuneMeter(tiny_llama, 1, templates=1, every_fact=EVERY_FACT)
    without, with_facts = meter.measure(groups, facts=False), meter.measure(groups)
    assert math.isnan(without.facts)
    assert without[:2] == with_facts[:2]


def test_one_meter_measures_one_recipe_after_another(
    tiny_llama: LanguageModel, groups: list[EditGroup]
) -> None:
    meter = TuneMeter(tiny_llama, 1, templates=1, every_fact=EVERY_FACT)
    first = meter.measure(groups)
    meter.measure([group_of(POINT, Operation.ABLATE, None)])
    assert meter.measure(groups) == first
