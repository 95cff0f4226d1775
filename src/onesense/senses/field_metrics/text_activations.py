"""One row of latents, and one of raw channels, for each of some texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from onesense.errors import ConfigurationError
from onesense.model.capture import capture
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_texts, pad_batch
from onesense.sae.activations import usable_positions

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary

_TEXTS_PER_BATCH = 16


class Pooling(StrEnum):
    """How the tokens of a text become one row."""

    MEAN = "mean"
    MAX = "max"
    LAST = "last"


@dataclass(frozen=True, eq=False)
class TextActivations:
    """What a dictionary and the model itself say of some texts.

    Attributes:
        latents: float32 [texts, d_sae].
        channels: Activations at the dictionary's hook point, in the model's own units, float32 [texts, d_in].
        cut: How many texts are longer than the model's context; of these the beginning counts.
    """

    latents: Tensor
    channels: Tensor
    cut: int


@torch.no_grad()
def text_activations(
    model: LanguageModel,
    dictionary: Dictionary,
    texts: Sequence[str],
    *,
    pooling: Pooling = Pooling.MEAN,
    progress: Callable[[int, int], None] | None = None,
) -> TextActivations:
    """Read texts, each as if it were alone.

    Special tokens and outliers (norm over five times the median of their text) do not count.

    Args:
        model: The model.
        dictionary: The dictionary.
        texts: The texts; their order is kept.
        pooling: How tokens become one row.
        progress: Told how many texts are done, and of how many.

    Raises:
        ConfigurationError: There is no text, or one without any token.
        HookPointError: The dictionary's hook point does not exist in this model.
        IncompatibleError: The dictionary has another width than the activations.
        NumericalError: An activation is NaN or infinite.
    """
    if not texts:
        raise ConfigurationError("There is no text to look at.", hint="Give at least one.")
    whole = encode_texts(model, texts)
    prefix = 0 if model.bos_id is None else 1
    empty = next((number for number, ids in enumerate(whole) if len(ids) == prefix), None)
    if empty is not None:
        raise ConfigurationError(f"Text {empty + 1} of {len(texts)} holds no token.", hint="Leave it out.")
    rows = [ids[: model.max_context] for ids in whole]
    latents = torch.empty(len(rows), dictionary.d_sae)
    channels = torch.empty(len(rows), model.resolve(dictionary.hook_point).width)
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    for start in range(0, len(order), _TEXTS_PER_BATCH):
        some = order[start : start + _TEXTS_PER_BATCH]
        batch = pad_batch(model, [rows[row] for row in some])
        found = capture(model, batch, [dictionary.hook_point])[dictionary.hook_point]
        for index, row in enumerate(some):
            # text by text, so that neither outliers nor rounding depend on its neighbours
            kept = found[index][usable_positions(found[index][None], batch.content[index][None])[0]]
            latents[row] = _pooled(dictionary.encode(kept.to(dictionary.device)), pooling)
            channels[row] = _pooled(kept, pooling)
        if progress is not None:
            progress(start + len(some), len(order))
    return TextActivations(latents, channels, sum(len(ids) > model.max_context for ids in whole))


def _pooled(values: Tensor, pooling: Pooling) -> Tensor:
    wide = values.to("cpu", torch.float32)
    if pooling is Pooling.LAST:
        return wide[-1]
    return wide.amax(dim=0) if pooling is Pooling.MAX else wide.mean(dim=0)
