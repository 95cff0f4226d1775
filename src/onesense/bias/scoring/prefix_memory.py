"""Hidden states kept from one scoring to the next."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from onesense.bias.scoring.batch import ScoringBatch
from onesense.bias.scoring.passes import Hidden


class PrefixMemory:
    """Hidden states of batches, the oldest given up first."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._kept: OrderedDict[tuple[bytes, int], Tensor] = OrderedDict()

    def __reduce__(self) -> tuple[type[PrefixMemory], tuple[int]]:
        """Another process keeps its own."""
        return PrefixMemory, (self._most,)

    def get(self, batch: ScoringBatch, block: int) -> Tensor | None:
        """The input of a block for a batch, where it is kept."""
        return self._kept.get((batch.key, block)) if self._most else None

    def clear(self) -> None:
        """Give up everything."""
        self._kept.clear()
        self._held = 0

    def put(self, batch: ScoringBatch, hidden: Hidden) -> None:
        """Keep what a pass has found."""
        for block, tensor in hidden.items():
            size = tensor.nbytes
            if size > self._most or (batch.key, block) in self._kept:
                continue
            while self._held + size > self._most:
                self._held -= self._kept.popitem(last=False)[1].nbytes
            self._kept[batch.key, block] = tensor
            self._held += size
