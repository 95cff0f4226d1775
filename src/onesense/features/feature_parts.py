"""Dictionaries in parts: neighbouring features whose weights and tables are in memory together.

The plan follows from the dictionaries and the settings alone, never from the machine, so that results do not either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from onesense.features.context_accumulator import ContextShape
from onesense.features.context_kernel import feature_seed
from onesense.features.context_settings import ContextSettings
from onesense.features.context_store import FEATURES_PER_BLOCK

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary


class FeaturePart(NamedTuple):
    """Features ``start`` to ``stop - 1`` of one of several dictionaries."""

    dictionary: int
    start: int
    stop: int

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.stop - self.start

    def shape(self, settings: ContextSettings) -> ContextShape:
        """The tables of these features; a feature's sample does not depend on the part that it is in."""
        chosen = settings
        seed = feature_seed(chosen.seed, self.start)
        return ContextShape(self.n_features, chosen.top_k, chosen.bands, chosen.per_band, chosen.width, seed)


def plan_parts(widths: Sequence[int], features_at_once: int) -> list[FeaturePart]:
    """Parts of dictionaries with so many features each, whole blocks of contexts but for the last of each."""
    step = max(features_at_once // FEATURES_PER_BLOCK, 1) * FEATURES_PER_BLOCK
    return [
        FeaturePart(index, start, min(start + step, width))
        for index, width in enumerate(widths)
        for start in range(0, width, step)
    ]


def part_of(
    dictionary: Dictionary, part: FeaturePart, *, device: torch.device, dtype: torch.dtype
) -> Dictionary:
    """These features as a dictionary of their own, on a device and in a number format.

    Of a topk dictionary it gives pre-activations rightly; which of them are active, all its parts decide together.
    """
    features = slice(part.start, part.stop)

    def taken(tensor: Tensor | None, where: tuple[slice, ...]) -> Tensor | None:
        return None if tensor is None else tensor[where].to(device=device, dtype=dtype).contiguous()

    whole = {"W_enc": (slice(None), features), "b_dec": (slice(None),)}
    tensors = {
        name: taken(tensor, whole.get(name, (features,))) for name, tensor in dictionary.tensors().items()
    }
    k = None if dictionary.k is None else min(dictionary.k, part.n_features)
    return replace(dictionary, k=k, **tensors)  # type: ignore[arg-type]
