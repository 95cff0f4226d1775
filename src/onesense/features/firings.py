"""Latents to firings: the few activations above zero, grouped by feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.features.compiled import compiled
from onesense.features.context_kernel import Firings

_BLOCK = 16  # latents looked at together; nearly all blocks hold only zeros
_LARGEST_HALF = np.float32(65504.0)
_FIRINGS_PER_TOKEN = 64  # first guess of the room needed
_NOT_FINITE = -2
_INFINITY_BITS = 0x7F800000


class NotFiniteError(Exception):
    """An activation is NaN or infinite.

    Attributes:
        token: Its row among the latents.
    """

    def __init__(self, token: int) -> None:
        super().__init__(f"token {token}")
        self.token = token


def firings_of(
    latents: Tensor, window: NDArray[np.int32], position: NDArray[np.int32], limit: Tensor | None = None
) -> Firings:
    """The firings among latents.

    Args:
        latents: Activations, [tokens, d_sae]: float32 or bfloat16 (others are converted), on any device.
        window: Window of each token, [tokens].
        position: Position of each token within its window, [tokens].
        limit: What each feature must exceed to fire, never negative, [d_sae], as the latents in dtype and
            device; None: 0.

    Returns:
        What is above the limit, grouped by feature, tokens in order.

    Raises:
        NotFiniteError: NaN or infinity among the latents.
    """
    if limit is None:
        limit = latents.new_zeros(latents.shape[1])
    if latents.device.type == "cpu":
        token, feature, bits = _scanned(latents, limit)
    else:
        token, feature, bits = _listed(latents, limit)
    pointer = np.zeros(latents.shape[1] + 1, dtype=np.int64)
    order = np.empty(len(feature), dtype=np.int64)
    _group(feature, pointer, order)
    token, bits = token[order], bits[order]
    value = bits.view(np.float32)
    half = np.minimum(value, _LARGEST_HALF).astype(np.float16).view(np.uint16)
    return Firings(pointer, value, bits, half, window[token], position[token])


def _as_integers(values: Tensor) -> NDArray[Any]:
    """The bits as signed integers, which are in the order of the numbers where these are not negative."""
    integers: NDArray[Any]
    if values.dtype == torch.bfloat16:
        integers = values.contiguous().view(torch.int16).numpy()
    else:
        integers = values.float().contiguous().view(torch.int32).numpy()
    return integers


def _scanned(
    latents: Tensor, limit: Tensor
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32]]:
    """Firings in token order, from memory that the CPU can read."""
    raw, least = _as_integers(latents), _as_integers(limit)
    infinity = raw.dtype.type(_INFINITY_BITS >> (32 - 8 * raw.itemsize))
    n_tokens, n_features = raw.shape
    token = np.empty(n_tokens * _FIRINGS_PER_TOKEN + n_features, dtype=np.int32)
    feature, bits = np.empty_like(token), np.empty(len(token), dtype=np.uint32)
    row, found = 0, 0
    while True:
        row, found, status = _scan(raw, least, infinity, row, token, feature, bits, found)
        if status == _NOT_FINITE:
            raise NotFiniteError(row)
        if row == n_tokens:
            return token[:found], feature[:found], bits[:found]
        token, feature, bits = (
            np.concatenate([array, np.empty_like(array)]) for array in (token, feature, bits)
        )


def _listed(
    latents: Tensor, limit: Tensor
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32]]:
    """Firings in token order, from a device: only they travel to the CPU."""
    finite = torch.isfinite(latents).all(dim=1)
    if not bool(finite.all()):
        raise NotFiniteError(int((~finite).nonzero()[0, 0]))
    where = (latents > limit).nonzero()
    values = latents[where[:, 0], where[:, 1]].float().cpu().numpy()
    places = where.to(torch.int32).cpu().numpy()
    return places[:, 0], places[:, 1], np.ascontiguousarray(values).view(np.uint32)


@compiled
def _scan(
    raw: Any, least: Any, infinity: Any, row: Any, token: Any, feature: Any, bits: Any, found: Any
) -> Any:
    """List the firings of whole rows until the room is used up; the next row, the number found, a status."""
    n_tokens, n_features = raw.shape
    whole = n_features - n_features % _BLOCK
    shift = np.uint32(32 - 8 * raw.itemsize)
    while row < n_tokens and found + n_features <= len(token):
        line = raw[row]
        for first in range(0, n_features, _BLOCK):
            last = n_features
            if first < whole:
                last = first + _BLOCK
                some = False
                for column in range(first, first + _BLOCK):
                    number = line[column]
                    some |= (number > least[column]) | ((number & infinity) == infinity)
                if not some:
                    continue
            for column in range(first, last):
                number = line[column]
                if (number & infinity) == infinity:
                    return row, found, _NOT_FINITE
                if number > least[column]:
                    token[found], feature[found] = row, column
                    bits[found] = np.uint32(number) << shift
                    found += 1
        row += 1
    return row, found, 0


@compiled
def _group(feature: Any, pointer: Any, order: Any) -> None:
    """Counting sort: where each feature's firings begin, and the order that groups them."""
    for entry in range(len(feature)):
        pointer[feature[entry] + 1] += 1
    for index in range(1, len(pointer)):
        pointer[index] += pointer[index - 1]
    cursor = pointer.copy()
    for entry in range(len(feature)):
        order[cursor[feature[entry]]] = entry
        cursor[feature[entry]] += 1
