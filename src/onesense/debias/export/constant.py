"""What an edit must be so that software without our positions can make it: everywhere, and constant."""

from __future__ import annotations

from collections.abc import Callable

import torch
from interp_engine.hooks import HookManager
from torch import Tensor

from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import Intervention
from onesense.steer.where import EVERYWHERE, Where


def why_not_everywhere(model: LanguageModel, edit: Edit, whose: str) -> str | None:
    """The reason why an edit leaves a position alone; None where it acts on every token.

    Args:
        model: The model.
        edit: The edit.
        whose: What acts everywhere, for the reason, such as ``llama.cpp adds the vector``.
    """
    if edit.where == EVERYWHERE or (edit.where == Where() and not model.special_ids):
        return None
    return f"feature {edit.feature} is not edited at every position (special tokens included), and {whose} everywhere"


def why_not_constant(model: LanguageModel, one: Intervention, whose: str) -> str | None:
    """The reason why edits at a hook point do not add one and the same vector to every token."""
    for edit in one.edits:
        if edit.operation is not Operation.DIRECTION_ADD:
            return f"feature {edit.feature} is edited by {edit.operation}, which is not a constant direction"
        reason = why_not_everywhere(model, edit, whose)
        if reason is not None:
            return reason
    return None


def constant_of(model: LanguageModel, one: Intervention) -> Tensor:
    """The vector that constant edits add, float32 [width], on the CPU."""
    zero = torch.zeros(1, 1, model.resolve(one.point).width, device=model.device)
    line = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    here = Positions(line, torch.ones_like(line, dtype=torch.bool), line, line[0] + 1, prompt_known=True)
    return one(zero, here)[0, 0].to(torch.float32).cpu()


def install(model: LanguageModel, point: HookPoint, change: Callable[[Tensor], Tensor]) -> None:
    """Replace the hidden state at a hook point for good, at every position; for a copy only."""
    target = model.resolve(point)
    # The manager takes hooks away where it is used as a context, which it is not here.
    HookManager().write(target.module, change, point=target.side)


def adding(vector: Tensor) -> Callable[[Tensor], Tensor]:
    """A change that adds a vector, in whatever format and place the hidden state has."""

    def add(hidden: Tensor) -> Tensor:
        return hidden + vector.to(hidden)

    return add
