"""Partial results of the contexts pass on disk, and how they become the results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onesense.errors import FormatError
from onesense.features.context_accumulator import Arrays, ContextAccumulator, token_dtype
from onesense.features.context_kernel import WindowTable
from onesense.features.context_settings import ContextSettings
from onesense.features.context_store import write_blocks, write_statistics
from onesense.features.feature_parts import FeaturePart
from onesense.store.run_folder import RunFolder

_OF_THE_TEXT = ("tokens", "tokens_seen", "outliers")


@dataclass(frozen=True, slots=True)
class PartPlace:
    """Where the partial results of some features are kept, shard by shard.

    Attributes:
        part: The features.
        run: The run folder of their dictionary.
        number: Of the part among those of its dictionary.
        n_parts: Parts of its dictionary.
        digest: What decides the numbers besides the text.
    """

    part: FeaturePart
    run: RunFolder
    number: int
    n_parts: int
    digest: Arrays

    def read(self, shard: int) -> Arrays | None:
        """The partial result of a shard; None where it is missing or damaged."""
        return self.run.read_shard(self._index(shard))

    def write(self, shard: int, partial: Arrays) -> None:
        """Keep the partial result of a shard.

        Raises:
            StorageError: The disk is full, read-only or out of reach.
        """
        self.run.write_shard(self._index(shard), {**partial, **self.digest})

    def is_done(self, shard: int, table: WindowTable) -> bool:
        """Whether a call with the same settings finished this shard of the same text."""
        partial = self.read(shard)
        expected = {f"window_{name}": array for name, array in table._asdict().items()} | self.digest
        return partial is not None and all(
            name in partial and np.array_equal(partial[name], array) for name, array in expected.items()
        )

    def _index(self, shard: int) -> int:
        return shard * self.n_parts + self.number


def part_places(
    parts: Sequence[FeaturePart], runs: Sequence[RunFolder], digests: Sequence[Arrays]
) -> list[PartPlace]:
    """The place of each part.

    Args:
        parts: Of all dictionaries.
        runs: Of each dictionary.
        digests: What decides the numbers of each dictionary besides the text.
    """
    places = []
    for part in parts:
        own = [other for other in parts if other.dictionary == part.dictionary]
        digest = {name: _with_part(array.tobytes(), part) for name, array in digests[part.dictionary].items()}
        places.append(PartPlace(part, runs[part.dictionary], own.index(part), len(own), digest))
    return places


def merge_parts(
    run: RunFolder,
    places: Sequence[PartPlace],
    settings: ContextSettings,
    *,
    n_ids: int,
    n_shards: int,
    identity: Arrays,
) -> None:
    """Merge the shards of each part in their order and write the results of a dictionary.

    Args:
        run: The run folder of the dictionary.
        places: Of its parts.
        settings: How much is kept.
        n_ids: One above the largest token id.
        n_shards: Number of shards.
        identity: Arrays to keep beside the statistics: what they were made from.

    Raises:
        FormatError: A partial result was damaged while the run went on.
        StorageError: The disk is full, read-only or out of reach.
    """
    found: list[Arrays] = []
    for place in places:
        whole = ContextAccumulator(place.part.shape(settings), token_dtype(n_ids))
        for shard in range(n_shards):
            partial = place.read(shard)
            if partial is None:
                raise FormatError(
                    f"Shard {shard} of {run.path} was damaged while the run went on.",
                    hint="Run the same command again: only that shard is done anew.",
                )
            whole.absorb(partial)
            del partial
        write_blocks(run, whole, first=place.part.start)
        found.append(whole.statistics())
    statistics = {
        name: array if name in _OF_THE_TEXT else np.concatenate([one[name] for one in found])
        for name, array in found[0].items()
    }
    write_statistics(run, statistics, settings.bands, identity)


def _with_part(digest: bytes, part: FeaturePart) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    text = digest + f" {part.start}:{part.stop}".encode()
    return np.frombuffer(hashlib.sha256(text).digest(), dtype=np.uint8)
