"""Run only the end of a model: from the hidden state at a block, where nothing before it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def entering(blocks: Sequence[nn.Module], start: int, hidden: Tensor | None) -> Iterator[None]:
    """Skip the blocks before ``start``: the last of them gives ``hidden``, the others what they get.

    For a model that nobody else runs meanwhile. Gradients flow from the hidden state on.

    Args:
        blocks: The model's blocks in order.
        start: The first block that runs; ``len(blocks)`` leaves only the final norm and the unembedding.
        hidden: Its input, [batch, seq, d_model]; not looked at where ``start`` is 0.
    """
    skipped = blocks[:start]
    own = [block.__dict__.get("forward") for block in skipped]  # accelerate puts one there

    def instead(*, last: bool) -> Callable[..., Any]:
        def skip(*args: Any, **kwargs: Any) -> Any:
            if last:
                return hidden
            return args[0] if args else kwargs["hidden_states"]

        return skip

    try:
        for index, block in enumerate(skipped):
            block.forward = instead(last=index == start - 1)
        yield
    finally:
        for block, before in zip(skipped, own, strict=True):
            if before is None:
                block.__dict__.pop("forward", None)
            else:
                block.forward = before


@contextmanager
def keeping(blocks: Sequence[nn.Module], index: int, found: dict[int, Tensor]) -> Iterator[None]:
    """Keep the input of a block in ``found``; ``len(blocks)`` stands for what the last block gives.

    Hooks that are on the last block already have acted on what is kept.
    """

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found[index] = (args[0] if args else kwargs["hidden_states"]).detach()

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        found[index] = (output[0] if isinstance(output, tuple) else output).detach()

    if index < len(blocks):
        handle = blocks[index].register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = blocks[-1].register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
