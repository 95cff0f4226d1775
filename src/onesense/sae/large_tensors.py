"""Tensors that may be larger than the memory that is left: they are looked at a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

_NUMBERS_AT_ONCE = 2**22


def row_parts(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Neighbouring rows of a tensor of one dimension or more, in order, each part with the number of its first."""
    step = max(_NUMBERS_AT_ONCE // max(tensor[:1].numel(), 1), 1)
    for first in range(0, len(tensor), step):
        yield first, tensor[first : first + step]
