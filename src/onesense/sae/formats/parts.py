"""What every reader gives back: a configuration in sae-lens' words, and tensors by sae-lens' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Parts:
    """A dictionary as it was read, before it is checked.

    Attributes:
        config: Flat (before sae-lens 6) or with `metadata` (from 6 on).
        tensors: `W_enc` [d_in, d_sae], `W_dec` [d_sae, d_in], `b_enc`, `b_dec`, ...
        sparsity: log10 of the firing frequency, [d_sae], where the release has it.
        norm_factor: The factor of `expected_average_only_in`, where it lies beside the weights.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    sparsity: Tensor | None = None
    norm_factor: float | None = None
