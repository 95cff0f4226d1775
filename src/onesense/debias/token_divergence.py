"""KL divergence at each node of a pass, with its gradient, in parts that fit the processor's cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_BYTES_AT_ONCE = 1 << 22


def token_divergences(base: Tensor, logits: Tensor) -> Tensor:
    """KL(base || edited) in nats at each node; gradients flow to the edited logits.

    The gradient is the difference of the two distributions, so it is made where they are at hand: the six tensors of
    [nodes, vocabulary] that automatic differentiation would keep become one.

    Args:
        base: Log-probabilities of the unedited model, [nodes, vocabulary].
        logits: Logits of the edited model, [nodes, vocabulary].

    Returns:
        [nodes], float64 where the device has it; rounding can make a divergence of nothing slightly negative.
    """
    found: Tensor = _TokenDivergences.apply(logits, base)  # type: ignore[no-untyped-call]
    return found


class _TokenDivergences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, base: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        slopes = torch.empty_like(logits) if wanted else None
        wide = torch.float32 if logits.device.type == "mps" else torch.float64
        found = torch.empty(len(logits), dtype=wide, device=logits.device)
        size = max(1, _BYTES_AT_ONCE // (logits.shape[-1] * logits.element_size()))
        for start in range(0, len(logits), size):
            rows = slice(start, start + size)
            before, after = base[rows], logits[rows].log_softmax(-1)
            probabilities = before.exp()
            found[rows] = (before - after).mul_(probabilities).sum(-1, dtype=wide)
            if slopes is not None:
                torch.sub(after.exp_(), probabilities, out=slopes[rows])
        ctx.save_for_backward(slopes)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * gradient.to(slopes.dtype)[:, None], None
