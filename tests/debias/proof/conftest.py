"""A recipe of two hook points on a tiny model, with its dictionaries and their firing rates."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from onesense.bias.scoring.requests import Request
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
