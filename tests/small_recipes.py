"""Small recipes over dictionaries with random directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup, Intervention
from onesense.steer.where import EVERYWHERE, Where

PROMPTS = [f"The person number {number} said that" for number in range(20)]


def dictionary_at(point: str, *, width: int = 32, seed: int = 0) -> Dictionary:
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.randn(48, width, generator=generator)
    decoder /= decoder.norm(dim=1, keepdim=True)
    return Dictionary(
        architecture=Architecture.RELU,
        hook_point=HookPoint.parse(point),
        W_enc=decoder.T.contiguous(),
        b_enc=torch.zeros(48),
        W_dec=decoder,
        b_dec=torch.zeros(width),
    )


def group_of(point: str, operation: Operation, value: float | None, where: Where = EVERYWHERE) -> EditGroup:
    """Two features edited at one point, by the same directions at every point."""
    edits = [Edit(feature=f, operation=operation, value=value, where=where) for f in (3, 7)]
    return EditGroup(dictionary_at(point), edits)


def projections(
    model: LanguageModel, points: Sequence[str], where: Where = EVERYWHERE, value: float = 1.0
) -> list[Intervention]:
    return [Intervention(model, group_of(point, Operation.PROJECT_OUT, value, where)) for point in points]
