"""A short proof on the real demo model."""

from __future__ import annotations

from pathlib import Path

import pytest

from onesense.bias.benchmark import Item, Split
from onesense.bias.benchmarks.occupations import Occupations
from onesense.bias.scoring.requests import Scorer
from onesense.debias.controls.calibrate import divergence_of
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.divergence import KlMeter
from onesense.debias.proof.prove import prove
from onesense.debias.proof.settings import ProofSettings
from onesense.model.language_model import LanguageModel
from onesense.sae.load import load_dictionary
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import make_recipe

POINT = "blocks.15.hook_resid_post"


class FewOccupations(Occupations):
    def items(self, scorer: Scorer) -> list[Item]:
        return super().items(scorer)[:24]


def test_a_recipe_against_the_harness_and_a_random_draw(demo_model: LanguageModel, tmp_path: Path) -> None:
    dictionary = load_dictionary(release="demo", sae_id=POINT)
    requests = calibration_requests(demo_model, passages=2, tokens=24)
    density = (dictionary.b_enc - dictionary.b_enc.min()) / (dictionary.b_enc.max() - dictionary.b_enc.min())
    edits = [Edit(feature=one, operation=Operation.SCALE, value=0.0) for one in range(40)]
    recipe = make_recipe(demo_model, [EditGroup(dictionary, edits)])
    proof = prove(
        demo_model,
        recipe,
        tmp_path / "run",
        dictionaries={POINT: dictionary},
        densities={POINT: density},
        settings=ProofSettings(
            draws=2,
            kinds=("sanity", "random"),
            benchmarks=[FewOccupations(Split.HELD_OUT, templates=1)],
            calibration=requests,
            bootstrap_draws=200,
        ),
    )
    mine, identity, rebuilt, *draws = proof.controls
    assert mine.kl == pytest.approx(divergence_of(demo_model, requests, recipe), abs=1e-6)
    assert identity.kl == 0
    assert identity.metrics[0].reduction.value == pytest.approx(0, abs=1e-5)
    assert rebuilt.kl > 10 * mine.kl
    assert all(one.kl <= 1.05 * mine.kl for one in draws)
    spread = mine.metrics[1]
    assert spread.metric == "spread"
    assert spread.reduction.low <= spread.reduction.value <= spread.reduction.high
    assert proof.null["occupations-held-out/spread"][0] in (1 / 3, 2 / 3, 1.0)


def test_the_meter_agrees_with_the_scorer(demo_model: LanguageModel) -> None:
    dictionary = load_dictionary(release="demo", sae_id=POINT)
    requests = calibration_requests(demo_model, passages=2, tokens=24)
    edits = [Edit(feature=one, operation=Operation.SCALE, value=0.2) for one in range(200)]
    group = EditGroup(dictionary, edits)
    found = KlMeter(demo_model, requests).measure([group])
    assert found == pytest.approx(divergence_of(demo_model, requests, [group]), abs=1e-6)
    assert found > 1e-5
