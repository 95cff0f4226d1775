"""The compiled heart of the lens statistics: one look at a block of logits while it is in cache.

A block holds some features (rows) by some consecutive tokens (columns). For each row the kernel adds to the
row's power sums and merges the block into the row's largest and smallest logits so far. Blocks of one row
must come in the order of their tokens; then ties fall to the lower token id by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from onesense.features.compiled import compiled_with

# Summed in float32, then added in float64: long enough for vector registers, short enough to lose nothing.
SEGMENT = 256

# Sums may be reordered, so that they run in vector registers; NaN and infinity keep their meaning.
_REORDER = {"reassoc", "nsz", "contract", "arcp"}


def _logit(stored: Any) -> Any:
    """Read one stored number as float32; only its compiled form below is ever called."""
    return stored


@overload(_logit, strict=False)  # type: ignore[untyped-decorator]
def _logit_by_format(stored: Any) -> Callable[[Any], Any] | None:
    if stored == numba.uint16:  # the bits of a bfloat16 are the upper half of a float32
        return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)
    if stored == numba.float32:
        return lambda stored: stored
    return None


@compiled_with(fastmath=_REORDER)
def _power_sums(segment: Any, scale: Any, offset: Any) -> Any:
    first = np.float32(0)
    second = np.float32(0)
    third = np.float32(0)
    fourth = np.float32(0)
    for token in range(segment.shape[0]):
        deviation = _logit(segment[token]) * scale - offset
        square = deviation * deviation
        first += deviation
        second += square
        third += square * deviation
        fourth += square * square
    return first, second, third, fourth


@compiled_with()
def _has_candidate(segment: Any, above: Any, below: Any) -> Any:
    found = np.int32(0)
    for token in range(segment.shape[0]):  # no early exit: this way it runs in vector registers
        logit = _logit(segment[token])
        found |= np.int32(logit > above) | np.int32(logit < below)
    return found != 0


@compiled_with()
def _merge_largest(segment: Any, sign: Any, first_token: int, values: Any, ids: Any) -> Any:
    """Merge ``sign * segment`` into the descending ``values``; of equal values the earlier stays first."""
    last = values.shape[0] - 1
    threshold = values[last]
    for token in range(segment.shape[0]):
        value = _logit(segment[token]) * sign
        if value > threshold:
            place = last
            while place > 0 and values[place - 1] < value:
                values[place] = values[place - 1]
                ids[place] = ids[place - 1]
                place -= 1
            values[place] = value
            ids[place] = first_token + token
            threshold = values[last]
    return threshold


@compiled_with()
def _scan_block(
    block: Any,
    first_token: int,
    scale: Any,
    offset: Any,
    sums: Any,
    top_values: Any,
    top_ids: Any,
    negated_bottom_values: Any,
    bottom_ids: Any,
) -> None:
    features, tokens = block.shape
    last = top_values.shape[1] - 1
    for feature in range(features):
        row = block[feature]
        above = top_values[feature, last]
        below = -negated_bottom_values[feature, last]
        for start in range(0, tokens, SEGMENT):
            segment = row[start : min(tokens, start + SEGMENT)]
            first, second, third, fourth = _power_sums(segment, scale[feature], offset[feature])
            sums[feature, 0] += first
            sums[feature, 1] += second
            sums[feature, 2] += third
            sums[feature, 3] += fourth
            if _has_candidate(segment, above, below):
                token = first_token + start
                above = _merge_largest(segment, np.float32(1), token, top_values[feature], top_ids[feature])
                below = -_merge_largest(
                    segment, np.float32(-1), token, negated_bottom_values[feature], bottom_ids[feature]
                )


def scan_block(
    block: NDArray[np.float32] | NDArray[np.uint16],
    first_token: int,
    *,
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    sums: NDArray[np.float64],
    top_values: NDArray[np.float32],
    top_ids: NDArray[np.int32],
    negated_bottom_values: NDArray[np.float32],
    bottom_ids: NDArray[np.int32],
) -> None:
    """Add one block of logits to the running statistics of its features, in place.

    Args:
        block: Logits ``[features, tokens]``, contiguous: float32, or the bits of bfloat16 as uint16.
        first_token: Id of the first column's token.
        scale: ``[features]``: what the logits are multiplied by before their powers are taken.
        offset: ``[features]``: what is then taken away, so that powers are taken near the mean.
        sums: ``[features, 4]``: sums of the first to fourth power of ``logit * scale - offset``.
        top_values: ``[features, k]``, descending, ``-inf`` where there is none yet.
        top_ids: ``[features, k]``: their token ids.
        negated_bottom_values: ``[features, k]``: the smallest logits with their sign turned, descending,
            ``-inf`` where there is none yet.
        bottom_ids: ``[features, k]``: their token ids.
    """
    state = (scale, offset, sums, top_values, top_ids, negated_bottom_values, bottom_ids)
    try:
        _scan_block(block, first_token, *state)
    except (
        OSError
    ):  # the machine code is in memory, only its copy on disk could not be written; nothing ran yet
        _scan_block(block, first_token, *state)


def moments(
    sums: NDArray[np.float64],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    n_tokens: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Turn power sums into mean, population std, skewness E[z³] and kurtosis E[z⁴] (not excess).

    Args:
        sums: ``[features, 4]`` as :func:`scan_block` leaves them.
        scale: ``[features]`` as given to :func:`scan_block`.
        offset: ``[features]`` as given to :func:`scan_block`.
        n_tokens: Columns that were summed.

    Returns:
        Four arrays ``[features]``; skewness and kurtosis are NaN where the variance is 0.
    """
    m1, m2, m3, m4 = (sums / n_tokens).T
    variance = np.maximum(m2 - m1**2, 0.0)
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    units = scale.astype(np.float64)
    mean = (m1 + offset) / units
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.where(variance > 0, third / variance**1.5, np.nan)
        kurtosis = np.where(variance > 0, fourth / variance**2, np.nan)
    return mean, np.sqrt(variance) / units, skewness, kurtosis
