"""The decoder of a dictionary, a few rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary


class DecoderRows:
    """Decoder rows in the model's own units; those of a dictionary on disk are read when they are asked for.

    Args:
        dictionary: Whose.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self._dictionary = dictionary

    @property
    def shape(self) -> tuple[int, int]:
        """Features and the width of the hook point."""
        return (self._dictionary.d_sae, self._dictionary.d_in)

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Rows of neighbouring features, float32."""
        return self._dictionary.decoder_rows(torch.arange(*rows.indices(self._dictionary.d_sae)))
