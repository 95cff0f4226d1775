"""What a dictionary keeps of the model: cross-entropy with its reconstruction spliced in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from interp_engine.hooks import HookManager
from torch import Tensor

from onesense.errors import ConfigurationError
from onesense.model.capture import forward_arguments
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import TokenBatch
from onesense.sae.dictionary import Dictionary
from onesense.text.corpus import Document
from onesense.text.windows import Window, batch_windows, iter_windows

_WINDOWS_PER_BATCH = 16


class CrossEntropy(NamedTuple):
    """Mean cross-entropy per predicted token, in nats, on the same text.

    Attributes:
        clean: Of the model as it is.
        spliced: With activations at content positions replaced by their reconstruction.
        ablated: With activations at content positions replaced by zero.
        tokens: Predicted tokens.
    """

    clean: float
    spliced: float
    ablated: float
    tokens: int

    @property
    def recovered(self) -> float:
        """``(ablated - spliced) / (ablated - clean)`` (SAEBench's core metric); 1 is perfect."""
        return (self.ablated - self.spliced) / (self.ablated - self.clean)


def cross_entropy(
    model: LanguageModel,
    dictionary: Dictionary,
    documents: Iterable[Document],
    *,
    tokens: int = 20_000,
    context_size: int = 128,
) -> CrossEntropy:
    """Measure the cross-entropy of a text with and without the dictionary in the way.

    Special tokens keep their own activation: the dictionary never saw them.

    Args:
        model: The model.
        dictionary: Whose reconstruction to splice in.
        documents: The text.
        tokens: How many tokens to use, about.
        context_size: Tokens of a window.

    Raises:
        ConfigurationError: The text holds no pair of tokens.
    """
    totals = [0.0, 0.0, 0.0]
    count = 0
    windows = iter_windows(model, documents, context_size=context_size)
    near = dictionary.to(device=model.device)
    rules: list[Callable[[Tensor], Tensor] | None] = [None, near.reconstruct, torch.zeros_like]
    while count < tokens:
        chunk = [window for window in islice(windows, _WINDOWS_PER_BATCH) if len(window.ids) > 1]
        if not chunk:
            break
        batch = batch_windows(model, chunk)
        for index, rule in enumerate(rules):
            total, predicted = _summed_loss(model, dictionary, batch, rule)
            totals[index] += total
        count += predicted
    if count == 0:
        raise ConfigurationError("The text is too short to measure cross-entropy.", hint="Give more text.")
    clean, spliced, ablated = (total / count for total in totals)
    return CrossEntropy(clean, spliced, ablated, count)


def spliced_cross_entropy(model: LanguageModel, dictionary: Dictionary, windows: Sequence[Window]) -> float:
    """Mean cross-entropy of some windows with the reconstruction spliced in; see ``CrossEntropy.spliced``.

    Args:
        model: The model.
        dictionary: Whose reconstruction to splice in.
        windows: The text.

    Raises:
        ConfigurationError: The windows hold no pair of tokens.
    """
    near = dictionary.to(device=model.device)
    total, count = 0.0, 0
    long_enough = [window for window in windows if len(window.ids) > 1]
    for start in range(0, len(long_enough), _WINDOWS_PER_BATCH):
        batch = batch_windows(model, long_enough[start : start + _WINDOWS_PER_BATCH])
        loss, predicted = _summed_loss(model, dictionary, batch, near.reconstruct)
        total, count = total + loss, count + predicted
    if count == 0:
        raise ConfigurationError("The text is too short to measure cross-entropy.", hint="Give more text.")
    return total / count


def _summed_loss(
    model: LanguageModel, dictionary: Dictionary, batch: TokenBatch, rule: Callable[[Tensor], Tensor] | None
) -> tuple[float, int]:
    with torch.no_grad(), HookManager() as hooks:
        if rule is not None:
            module, side, _ = model.resolve(dictionary.hook_point)

            def replace(activation: Tensor) -> Tensor:
                here = activation.to(batch.content.device)  # blocks may lie on different devices
                new = rule(here.float()).to(activation.dtype)
                return torch.where(batch.content[..., None], new, here).to(activation.device)

            hooks.write(module, replace, point=side)
        logits = model.hf(**forward_arguments(batch)).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none"
    ).view(logits.shape[:2])
    counted = batch.content[:, 1:]
    return float(losses[counted].cpu().double().sum()), int(counted.sum())
