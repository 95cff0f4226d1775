"""How a dictionary's input is prepared, and how its output is brought back to the model's own units.

The order is fixed: centre over d_model, then the dictionary's own normalisation, then subtract `b_dec`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor

# sae-lens' own constant; it is added to the standard deviation on the way in and left out on the way back.
_LAYER_NORM_EPS = 1e-5
_SMALLEST_NORM = 1e-12


class Normalization(StrEnum):
    """What happens to an activation before it is encoded; the names are those of sae-lens."""

    NONE = "none"
    EXPECTED_AVERAGE = "expected_average_only_in"
    LAYER_NORM = "layer_norm"
    CONSTANT_NORM = "constant_norm_rescale"

    @property
    def per_token(self) -> bool:
        """Whether the way back depends on the token's own activation."""
        return self in (Normalization.LAYER_NORM, Normalization.CONSTANT_NORM)


class Prepared(NamedTuple):
    """A normalised activation and its way back: `output * scale + shift`.

    Attributes:
        inputs: What the encoder reads (before `b_dec` is subtracted), [..., d_in].
        scale: Units of the model for one unit of the dictionary, [..., 1] or [1].
        shift: What the normalisation took away, [..., 1] or [1].
    """

    inputs: Tensor
    scale: Tensor
    shift: Tensor


@dataclass(frozen=True, slots=True)
class Preparation:
    """Input preparation of a dictionary.

    Attributes:
        center: Subtract each activation's mean over d_model first. A dictionary that was trained on a model
            with `center_writing_weights` expects it; without it the late layers degrade silently.
        normalization: The dictionary's own normalisation.
        norm_factor: The factor of `expected_average_only_in`: sqrt(d_in) over the mean norm of the training
            activations. None: the factor is unknown or folded into the weights already.
        subtract_b_dec: Whether the decoder bias is subtracted from the input.
        flatten_heads: Whether the hook point is per head, [..., n_heads, d_head], and is read flattened.
    """

    center: bool = False
    normalization: Normalization = Normalization.NONE
    norm_factor: float | None = None
    subtract_b_dec: bool = True
    flatten_heads: bool = False

    def target(self, activations: Tensor) -> Tensor:
        """What a reconstruction is measured against: the activation, centred where that is asked for.

        Args:
            activations: In the model's own units, [..., d_in].
        """
        return activations - self.removed_mean(activations) if self.center else activations

    def removed_mean(self, activations: Tensor) -> Tensor:
        """The mean over d_model that centring takes away, [..., 1]; zero where there is no centring."""
        mean = activations.mean(dim=-1, keepdim=True)
        return mean if self.center else torch.zeros_like(mean)

    def normalize(self, activations: Tensor) -> Prepared:
        """Centre and normalise.

        Args:
            activations: In the model's own units, [..., d_in].
        """
        inputs = self.target(activations)
        one, zero = inputs.new_ones(1), inputs.new_zeros(1)
        match self.normalization:
            case Normalization.LAYER_NORM:
                mean = inputs.mean(dim=-1, keepdim=True)
                std = (inputs - mean).std(dim=-1, keepdim=True)
                return Prepared((inputs - mean) / (std + _LAYER_NORM_EPS), std, mean)
            case Normalization.CONSTANT_NORM:
                norm = inputs.norm(dim=-1, keepdim=True).clamp_min(_SMALLEST_NORM)
                scale = norm / inputs.shape[-1] ** 0.5
                return Prepared(inputs / scale, scale, zero)
            case Normalization.EXPECTED_AVERAGE if self.norm_factor is not None:
                return Prepared(inputs * self.norm_factor, one / self.norm_factor, zero)
            case _:
                return Prepared(inputs, one, zero)
