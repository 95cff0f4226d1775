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


def encoded(dictionary: Dictionary, activations: Tensor, least: Tensor | None = None) -> Encoded:
    """Latents of activations, as ``Dictionary.encode`` gives them, up to rounding.

    Args:
        dictionary: The dictionary.
        activations: In the model's own units, finite, on the dictionary's device, [tokens, d_in].
        least: Of a part of a topk dictionary: what a pre-activation must reach at each token, [tokens].
    """
    if least is not None:
        values = _top_k_pre_activations(dictionary, activations)
        values.masked_fill_(values < least[:, None], 0)
        return Encoded(values, values.new_zeros(values.shape[1]))
    if dictionary.architecture not in _THRESHOLD_RULES:
        latents = dictionary.encode(activations)
        return Encoded(latents, latents.new_zeros(latents.shape[1]))
    values = _products(dictionary, activations)
    threshold = dictionary.threshold
    limit = torch.zeros_like(dictionary.b_enc) if threshold is None else threshold.clamp_min(0)
    return Encoded(values, limit)


def largest_pre_activations(dictionary: Dictionary, activations: Tensor, k: int) -> Tensor:
    """What a topk dictionary ranks, the largest of it at each token, [tokens, at most k].

    Args:
        dictionary: A topk dictionary or a part of one.
        activations: In the model's own units, finite, on the dictionary's device, [tokens, d_in].
        k: How many.
    """
    with torch.no_grad():
        values = _top_k_pre_activations(dictionary, activations)
        return values.topk(min(k, values.shape[1]), dim=1).values


def _top_k_pre_activations(dictionary: Dictionary, activations: Tensor) -> Tensor:
    values = _products(dictionary, activations)
    return values.mul_(dictionary.decoder_norms) if dictionary.rescale_by_decoder_norm else values


def _products(dictionary: Dictionary, activations: Tensor) -> Tensor:
    wide = activations.to(dictionary.device, torch.promote_types(torch.float32, dictionary.dtype))
    inputs = dictionary.preparation.normalize(wide).inputs
    if dictionary.preparation.subtract_b_dec:
        inputs = inputs - dictionary.b_dec
    return torch.addmm(dictionary.b_enc, inputs.to(dictionary.dtype), dictionary.W_enc)
