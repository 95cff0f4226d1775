"""One forward pass over a batch: from its tokens, or from the hidden state at a block where edits begin."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from onesense.bias.scoring.batch import ScoringBatch
from onesense.errors import NumericalError
from onesense.model.capture import capture_with
from onesense.model.hook_points import HookPoint
from onesense.model.hooks import model_lock
from onesense.model.language_model import LanguageModel

Hidden = dict[int, Tensor]
"""The residual stream before a block, by the block's index, [rows, columns, d_model]."""


def first_block(point: HookPoint) -> int:
    """The first block whose input an edit at this hook point may change; what is before it need not run again."""
    return point.layer + 1 if point.suffix == "hook_resid_post" else point.layer


class _Found(Exception):
    """Ends a pass once everything has been read."""


def run(
    model: LanguageModel,
    batch: ScoringBatch,
    *,
    nodes: Tensor | None = None,
    keep: Sequence[int] = (),
    resume: tuple[int, Tensor] | None = None,
) -> tuple[Tensor, Hidden]:
    """Run the model over a batch.

    Args:
        model: The model; edits that are installed on it act.
        batch: The batch.
        nodes: Where logits are wanted, sorted; None for everywhere.
        keep: Blocks whose input is kept.
        resume: A block and its input; blocks before it are not run.

    Returns:
        Logits after each wanted node, float32 [nodes, vocabulary], and what was kept.

    Raises:
        NumericalError: The logits are NaN.
    """
    found: Hidden = {}
    # A plain pass touches nothing that is shared, and several may run at once.
    alone = model_lock(model) if keep or resume is not None or model.offloaded else nullcontext()
    with alone, torch.no_grad(), _keeping(model, keep, found), skipping(model, resume):
        logits = logits_at(model, batch, nodes)
    if bool(logits.isnan().any()):
        raise NumericalError(
            f"The logits of `{model.name}` are NaN.",
            hint="Load the model in float32, or lower the edits of the recipe.",
        )
    return logits, found


def logits_at(model: LanguageModel, batch: ScoringBatch, nodes: Tensor | None) -> Tensor:
    """Logits after some nodes; where the model can be asked for them, no others are made.

    A product with the vocabulary costs as much as many blocks, and few nodes of a prompt predict what is scored.

    Args:
        model: The model; what is installed on it acts, and gradients flow.
        batch: The batch.
        nodes: The nodes, each once and sorted, long [nodes]; None for all.

    Returns:
        float32 [nodes, vocabulary].
    """
    arguments = forward_arguments(model, batch)
    width = batch.tokens.shape[1]
    columns = None
    if nodes is not None and keeps_some_logits(model):
        columns = (nodes % width).unique()
        arguments["logits_to_keep"] = columns.to(model.device)
    output: Any = model.hf(**arguments)
    logits: Tensor = output.logits
    if nodes is None or (columns is not None and len(batch.tokens) == 1):
        return logits.flatten(0, 1).float()
    place = nodes % width if columns is None else torch.searchsorted(columns, nodes % width)
    return logits[(nodes // width).to(logits.device), place.to(logits.device)].float()


def keeps_some_logits(model: LanguageModel) -> bool:
    """Whether the model can be asked for the logits of some columns only."""
    return "logits_to_keep" in inspect.signature(model.hf.forward).parameters


def read_inputs(model: LanguageModel, batch: ScoringBatch, blocks: Sequence[int]) -> Hidden:
    """The inputs of some blocks, from a pass that stops at the last of them."""
    found: Hidden = {}
    with (
        model_lock(model),
        torch.no_grad(),
        _keeping(model, blocks, found, stop=True),
        suppress(_Found),
    ):
        model.hf.base_model(**forward_arguments(model, batch))
    return found


def read_points(
    model: LanguageModel, batch: ScoringBatch, points: Sequence[HookPoint]
) -> dict[HookPoint, Tensor]:
    """Activations at some hook points, [rows, columns, width], from a pass that stops at the last of them.

    Raises:
        HookPointError: A hook point does not exist in this model, or its module never ran.
    """
    return capture_with(model, forward_arguments(model, batch), points)


def forward_arguments(model: LanguageModel, batch: ScoringBatch) -> dict[str, Any]:
    """Keyword arguments of a forward pass over a batch."""
    arguments: dict[str, Any] = {"input_ids": batch.tokens.to(model.device), "use_cache": False}
    mask = batch.mask(model.dtype)
    if mask is not None:
        arguments["attention_mask"] = mask.to(model.device)
        arguments["position_ids"] = batch.positions.to(model.device)
    return arguments


def _block(model: LanguageModel, index: int) -> nn.Module:
    return model.resolve(HookPoint(index, "hook_resid_post")).module


@contextmanager
def _keeping(
    model: LanguageModel, blocks: Sequence[int], found: Hidden, *, stop: bool = False
) -> Iterator[None]:
    """Keep the input of some blocks; block ``n_layers`` stands for what the last block gives."""
    owner = threading.get_ident()

    def keep(index: int, hidden: Tensor) -> None:
        if threading.get_ident() != owner:
            return
        found[index] = hidden.detach()
        if stop and len(found) == len(blocks):
            raise _Found

    def before(index: int) -> Any:
        return lambda _module, args, kwargs: keep(index, args[0] if args else kwargs["hidden_states"])

    def after(index: int) -> Any:
        return lambda _module, _args, output: keep(index, output[0] if isinstance(output, tuple) else output)

    handles = []
    for index in blocks:
        if index < model.n_layers:
            handles.append(_block(model, index).register_forward_pre_hook(before(index), with_kwargs=True))
        else:
            handles.append(_block(model, index - 1).register_forward_hook(after(index)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def skipping(model: LanguageModel, resume: tuple[int, Tensor] | None) -> Iterator[None]:
    """Blocks before one give on what they get, and the last of them gives the hidden state to go on from.

    Args:
        model: The model; forward passes of other threads are left alone.
        resume: A block and its input; None, or block 0, to skip nothing.
    """
    if resume is None or resume[0] == 0:
        yield
        return
    start, hidden = resume
    skipped = [_block(model, index) for index in range(start)]
    own = [block.__dict__.get("forward") for block in skipped]  # accelerate puts one there
    owner = threading.get_ident()

    def instead(block: nn.Module, *, last: bool) -> Callable[..., Any]:
        forward = block.forward

        def skip(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != owner:
                return forward(*args, **kwargs)
            if last:
                return hidden
            return args[0] if args else kwargs["hidden_states"]

        return skip

    try:
        for number, block in enumerate(skipped, start=1):
            block.forward = instead(block, last=number == start)
        yield
    finally:
        for block, forward in zip(skipped, own, strict=True):
            block.__dict__.pop("forward", None)
            if forward is not None:
                block.__dict__["forward"] = forward
