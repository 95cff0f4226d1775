"""Read activations: one forward pass that stops at the last hook point asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from interp_engine.hooks import HookManager
from torch import Tensor

from onesense.errors import HookPointError
from onesense.model.hook_points import HookPoint
from onesense.model.hooks import model_lock
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import TokenBatch


class _Captured(Exception):
    """Ends the forward pass once everything has been read."""


def forward_arguments(batch: TokenBatch) -> dict[str, Any]:
    """Keyword arguments of a forward pass without cache.

    With padding on the right, causal attention never looks at it, so the mask is left out and attention
    takes its fast path.
    """
    arguments: dict[str, Any] = {"input_ids": batch.ids, "use_cache": False}
    if batch.left_padded:
        arguments |= {"attention_mask": batch.attention_mask, "position_ids": batch.position_ids}
    return arguments


@contextmanager
def reading(
    model: LanguageModel, points: Sequence[HookPoint], found: dict[HookPoint, Tensor], *, stop: bool
) -> Iterator[None]:
    """Hooks that put the activations at ``points`` into ``found``, removed again at the end."""
    with HookManager() as hooks:
        for point in points:
            module, side, _ = model.resolve(point)

            def keep(activation: Tensor, point: HookPoint = point) -> None:
                read = activation.detach().to(model.device)  # blocks may lie on different devices
                found[point] = read.flatten(2) if read.ndim == 4 else read
                if stop and len(found) == len(points):
                    raise _Captured

            hooks.read(module, keep, point=side)
        yield


def capture(model: LanguageModel, batch: TokenBatch, points: Sequence[HookPoint]) -> dict[HookPoint, Tensor]:
    """Activations at several hook points from one forward pass.

    The pass stops as soon as the last of them is known and keeps nothing else.

    Args:
        model: The model.
        batch: Tokens, [batch, seq].
        points: Where to read.

    Returns:
        For each hook point its activations, [batch, seq, width], in the model's dtype and on its device.

    Raises:
        HookPointError: A hook point does not exist in this model, or its module never ran.
    """
    return capture_with(model, forward_arguments(batch), points)


def capture_with(
    model: LanguageModel, arguments: dict[str, Any], points: Sequence[HookPoint]
) -> dict[HookPoint, Tensor]:
    """See ``capture``; the pass is told by its keyword arguments."""
    wanted = list(dict.fromkeys(points))
    found: dict[HookPoint, Tensor] = {}
    # Offloaded weights come and go with each pass, so that two at once would take them from one another.
    alone = model_lock(model) if model.offloaded else nullcontext()
    with alone, torch.no_grad(), reading(model, wanted, found, stop=True), suppress(_Captured):
        model.hf.base_model(**arguments)
    missing = [point.name for point in wanted if point not in found]
    if missing:
        raise HookPointError(
            f"The forward pass of `{model.name}` never reached {', '.join(missing)}.",
            hint="Choose a hook point in the residual stream.",
        )
    return found
