"""Activations with a known difference between women and men, and positions to apply edits at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from onesense.debias.controls.activations import LabelledActivations
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.steer.intervention import EditGroup, Intervention

BOS = 256
Apply = Callable[[LanguageModel, EditGroup, Tensor], Tensor]


@pytest.fixture(scope="session")
def apply() -> Apply:
    """Applies edits to activations [n, width] of ordinary tokens."""

    def run(model: LanguageModel, group: EditGroup, activations: Tensor) -> Tensor:
        n = len(activations)
        ids = torch.full((1, n), 9)
        positions = Positions(
            torch.arange(n)[None], torch.ones(1, n, dtype=torch.bool), ids, torch.tensor([n]), True
        )
        return Intervention(model, group)(activations[None], positions)[0]

    return run


@pytest.fixture(scope="session")
def data() -> LabelledActivations:
    """Correlated activations of the width of a tiny model; gender is in a few of their directions."""
    generator = torch.Generator().manual_seed(3)
    n, width = 120, 32
    mixing = torch.randn(width, width, generator=generator) / width**0.5
    base = torch.randn(n, width, generator=generator) @ mixing + 2.0
    shift = torch.randn(width, generator=generator) * 0.5
    noise = torch.randn(n, width, generator=generator) @ mixing * 0.3
    families = tuple(f"word {number // 3}" for number in range(n))
    return LabelledActivations(
        HookPoint(1, "hook_resid_post"), "tiny", base + shift + noise, base - shift, families
    )
