"""What several tests of senses share, made once."""

from __future__ import annotations

import pytest

from onesense.senses.judge import Judge, fit_judge
from onesense.senses.space import ContextVectors, SenseSpace
from senses.planted_contexts import Planted, planted, unions_among

LEARNED = 70
"""The judge learns from the features below; the others are new to it."""


@pytest.fixture(scope="session")
def world() -> Planted:
    return planted()


@pytest.fixture(scope="session")
def space(world: Planted) -> SenseSpace:
    return world.space()


@pytest.fixture(scope="session")
def vectors(world: Planted, space: SenseSpace) -> list[ContextVectors]:
    return world.vectors(space)


@pytest.fixture(scope="session")
def judge(vectors: list[ContextVectors]) -> Judge:
    return fit_judge(unions_among(vectors[:LEARNED]), sizes=(8, 32, 16), seed=0, unions=400)
