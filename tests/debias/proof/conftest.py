"""A recipe of two hook points on a tiny model, with its dictionaries and their firing rates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from letters import benchmarks
from onesense.bias.scoring.requests import Request
from onesense.debias.proof import prove as prove_module
from onesense.debias.proof.prove import prove
from onesense.debias.proof.settings import ProofSettings
from onesense.debias.results import Proof
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import Recipe, make_recipe
from tiny_dictionaries import random_dictionary

TEXTS = (
    "The nurse said that she was tired.",
    "The driver said he would come, and he did.",
    "A cook asked for her knife.",
)


@dataclass(frozen=True)
class Tuned:
    recipe: Recipe
    dictionaries: dict[str, Dictionary]
    densities: dict[str, Tensor]


@pytest.fixture(scope="session")
def requests() -> list[Request]:
    return [Request(text) for text in TEXTS]


@pytest.fixture(scope="session")
def tuned(tiny_llama: LanguageModel) -> Tuned:
    groups, dictionaries, densities = [], {}, {}
    for layer, features in ((0, (3, 5)), (1, (1, 4, 8))):
        point = HookPoint(layer, "hook_resid_post")
        dictionary = random_dictionary(d_in=32, d_sae=60, seed=layer, hook_point=point)
        edits = [Edit(feature=one, operation=Operation.SCALE, value=0.4) for one in features]
        edits.append(Edit(feature=features[0], operation=Operation.ADD, value=-0.1))
        groups.append(EditGroup(dictionary, edits, stack=True))
        dictionaries[point.name] = dictionary
        densities[point.name] = torch.full((60,), 0.3)
    return Tuned(make_recipe(tiny_llama, groups), dictionaries, densities)


@pytest.fixture
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Erasures are fitted on a tenth of the texts, which is enough for a random model."""
    plain = prove_module.erasure_pairs
    monkeypatch.setattr(prove_module, "erasure_pairs", lambda model: plain(model)[:40])


@pytest.fixture
def run(tiny_llama: LanguageModel, tuned: Any, requests: list[Request]) -> Any:
    def call(folder: Path, **changes: Any) -> Proof:
        given = {
            "dictionaries": tuned.dictionaries,
            "densities": tuned.densities,
            **{
                name: changes.pop(name)
                for name in ("dictionaries", "densities", "learned", "scored")
                if name in changes
            },
        }
        settings: dict[str, Any] = {
            "draws": 3,
            "benchmarks": benchmarks(),
            "calibration": requests,
            "bootstrap_draws": 100,
        }
        return prove(
            tiny_llama, tuned.recipe, folder, **given, settings=ProofSettings(**{**settings, **changes})
        )

    return call
