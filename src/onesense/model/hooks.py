"""Write activations: hooks that change a hidden state, and that are always taken away again.

A model is shared: one thread at a time may have writing hooks on it, the others wait, and a hook acts only on
the forward passes of the thread that put it there, so that nobody's plain run is edited by someone else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from interp_engine.hooks import HookManager
from torch import Tensor, nn

from onesense.errors import HookPointError, IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions, PositionTracker

Write: TypeAlias = Callable[[Tensor, Positions], Tensor]

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()


def model_lock(model: LanguageModel) -> threading.RLock:
    """The lock that a thread holds while it has writing hooks on the model; it may be taken again."""
    with _LOCKS_GUARD:
        return _LOCKS.setdefault(model.hf, threading.RLock())


class Firings:
    """How often each hook ran.

    Attributes:
        counts: Number of forward passes that reached each hook point.
    """

    def __init__(self, points: Sequence[HookPoint]) -> None:
        self.counts: dict[HookPoint, int] = dict.fromkeys(points, 0)

    def require_all(self, model: LanguageModel) -> None:
        """Refuse to call a text edited when a hook never ran.

        Raises:
            HookPointError: A hook ran zero times.
        """
        silent = [point.name for point, count in self.counts.items() if count == 0]
        if silent:
            raise HookPointError(
                f"The edits at {', '.join(silent)} of `{model.name}` never ran: no forward pass got there.",
                hint="Run the model inside the `with` block, in the same thread.",
            )


@contextmanager
def writing(
    model: LanguageModel,
    writes: Mapping[HookPoint, Write],
    *,
    prompt_lengths: Sequence[int] | None = None,
) -> Iterator[Firings]:
    """Hooks that replace the hidden state at some hook points for as long as the block runs.

    Args:
        model: The model; it is locked to this thread meanwhile.
        writes: For each hook point a function of the hidden state [batch, seq, width] and its positions that
            returns the new hidden state, or the very same tensor to change nothing.
        prompt_lengths: Real tokens of each row's prompt, where the caller knows better than the cache.

    Yields:
        The count of how often each hook ran.

    Raises:
        HookPointError: A hook point does not exist in this model.
        IncompatibleError: A hidden state does not have the shape of the tokens that went in.
    """
    targets = [(point, model.resolve(point), write) for point, write in writes.items()]
    body = model.hf.base_model
    tracker = PositionTracker.for_forward(body.forward, prompt_lengths)
    owner = threading.get_ident()
    firings = Firings(list(writes))

    def watch(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() == owner:
            tracker.observe(args, kwargs)

    def replacing(point: HookPoint, write: Write) -> Callable[[Tensor], Tensor]:
        def replace(hidden: Tensor) -> Tensor:
            if threading.get_ident() != owner:
                return hidden
            firings.counts[point] += 1
            return rewritten(hidden, tracker.current, write, point)

        return replace

    with model_lock(model), HookManager() as hooks:
        watcher = body.register_forward_pre_hook(watch, with_kwargs=True)
        try:
            for point, target, write in targets:
                hooks.write(target.module, replacing(point, write), point=target.side)
            yield firings
        finally:
            watcher.remove()


def rewritten(hidden: Tensor, positions: Positions | None, write: Write, point: HookPoint) -> Tensor:
    """A hidden state after a write, in its own shape; the very same tensor where nothing changed.

    Args:
        hidden: What the module got or gave, [batch, seq, ...].
        positions: The positions of the pass; None where no pass was seen.
        write: See ``writing``.
        point: Where it is, for the error.

    Raises:
        IncompatibleError: The hidden state does not have the shape of the tokens that went in.
    """
    if positions is None or hidden.shape[:2] != positions.index.shape:
        expected = "no tokens" if positions is None else str(list(positions.index.shape))
        raise IncompatibleError(
            f"The activation at `{point}` has shape {list(hidden.shape)}, and the pass got {expected}.",
            hint="Run the whole model on a batch of tokens.",
        )
    # Blocks may lie on different devices; edits lie where the tokens are.
    here = hidden.to(positions.index.device)
    flat = here.flatten(2) if here.ndim > 3 else here
    written = write(flat, positions)
    return hidden if written is flat else written.view_as(hidden).to(hidden.device)
