"""Latents for the contexts pass, without the passes over memory that it does not need.

``Dictionary.encode`` goes over all latents four times after the matrix product: bias, rectifier, threshold,
product. Where the rule is a threshold, whoever looks for the few that fire can compare for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary

_THRESHOLD_RULES = ("relu", "jumprelu")


class Encoded(NamedTuple):
    """What ``firings_of`` reads.

    Attributes:
        values: A latent where it is above the limit, anything up to the limit elsewhere, [tokens, d_sae].
        limit: What each latent must exceed, never negative, [d_sae].
    """

    values: Tensor
    limit: Tensor


def encoded(dictionary: Dictionary, activations: Tensor) -> Encoded:
    """Latents of activations, as ``Dictionary.encode`` gives them, up to rounding.

    Args:
        dictionary: The dictionary.
        activations: In the model's own units, finite, on the dictionary's device, [tokens, d_in].
    """
    if dictionary.architecture not in _THRESHOLD_RULES:
        latents = dictionary.encode(activations)
        return Encoded(latents, latents.new_zeros(latents.shape[1]))
    wide = activations.to(torch.promote_types(torch.float32, dictionary.dtype))
    inputs = dictionary.preparation.normalize(wide).inputs
    if dictionary.preparation.subtract_b_dec:
        inputs = inputs - dictionary.b_dec
    values = torch.addmm(dictionary.b_enc, inputs.to(dictionary.dtype), dictionary.W_enc)
    threshold = dictionary.threshold
    limit = torch.zeros_like(dictionary.b_enc) if threshold is None else threshold.clamp_min(0)
    return Encoded(values, limit)
