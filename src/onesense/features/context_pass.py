"""The forward side of the contexts pass: windows through model and dictionaries, firings to the tables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from onesense.features.context_accumulator import Arrays, ShardAccumulator
from onesense.features.context_kernel import WindowTable
from onesense.features.context_reading import Read, not_finite, read_windows
from onesense.features.context_settings import ContextSettings
from onesense.features.context_shards import plan_batches, row_chunks, window_ids
from onesense.features.encoding import encoded, largest_pre_activations
from onesense.features.feature_parts import FeaturePart, part_of
from onesense.features.firings import FiringList, NotFiniteError
from onesense.model.batching import FittingBatch
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.text.windows import Window

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary

_LATENTS_AT_ONCE = 2**22  # 16 MiB of float32: what is encoded is still in cache when it is looked through
_FIRINGS_AT_ONCE = 2**18  # what is known about a feature comes into the cache once for so many firings


class ShardPart(NamedTuple):
    """A unit of work: some features in the windows of a shard.

    Attributes:
        shard: Number of the shard.
        table: Its windows.
        part: The features.
    """

    shard: int
    table: WindowTable
    part: FeaturePart


class _Batch(NamedTuple):
    """Windows that went through the model together, and what was read at each hook point."""

    numbers: list[int]  # of the windows, within the shard
    windows: list[Window]
    read: Mapping[HookPoint, Read]


class _Held:
    """What a pass keeps from one part to the next; in another process it begins with nothing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shard = -1
        self.batches: list[_Batch] = []
        self.least: dict[int, list[Tensor]] = {}
        self.part: FeaturePart | None = None
        self.dictionary: Dictionary | None = None

    def __reduce__(self) -> tuple[type[_Held], tuple[()]]:
        return _Held, ()


@dataclass(frozen=True, slots=True)
class ContextPass:
    """Turns a part of a shard into its partial result; can be sent to another process.

    Parts of one shard share the forward pass where they come one after the other.

    Attributes:
        model: The model.
        dictionaries: The dictionaries.
        parts: All the parts that there are.
        settings: How much is kept.
        most_norm: For each hook point, the largest norm that counts.
        done: Told the number of tokens after each batch of each part.
    """

    model: LanguageModel
    dictionaries: tuple[Dictionary, ...]
    parts: tuple[FeaturePart, ...]
    settings: ContextSettings
    most_norm: Mapping[HookPoint, float]
    done: Callable[[int], None] | None = None
    _held: _Held = field(default_factory=_Held, repr=False, compare=False)
    _fitting: FittingBatch = field(
        default_factory=lambda: FittingBatch("Reading text"), repr=False, compare=False
    )

    def telling(self, done: Callable[[int], None] | None) -> ContextPass:
        """The same pass, that tells somebody else."""
        return replace(self, done=done)

    def __call__(self, item: ShardPart) -> Arrays:
        """Statistics and contexts of some features in the windows of one shard.

        Raises:
            NumericalError: NaN or infinity among the activations.
        """
        dictionary = self._dictionary(item.part)
        accumulator = ShardAccumulator(item.part.shape(self.settings), item.table)
        firings = FiringList(item.part.n_features)
        batches, least = self._batches(item)
        for number, batch in enumerate(batches):
            self._take(accumulator, firings, dictionary, batch, None if least is None else least[number])
            if self.done is not None:
                self.done(int(item.table.length[batch.numbers].sum()))
        accumulator.update(firings.take())
        return accumulator.partial()

    def _batches(self, item: ShardPart) -> tuple[Iterator[_Batch] | list[_Batch], list[Tensor] | None]:
        """Batches of a shard, and of a topk dictionary in parts what a latent must reach at each token."""
        if len(self.parts) == 1:
            return self._read(item.table), None
        with self._held.lock:
            if self._held.shard != item.shard:
                # Given up before the next ones, so that both never meet, also where reading those fails.
                self._held.shard, self._held.batches, self._held.least = -1, [], {}
                self._held.batches = list(self._read(item.table))
                self._held.shard = item.shard
            batches, index = self._held.batches, item.part.dictionary
            own = [part for part in self.parts if part.dictionary == index]
            if self.dictionaries[index].k is None or len(own) == 1:
                return batches, None
            if index not in self._held.least:
                self._held.least[index] = self._least(own, batches)
            return batches, self._held.least[index]

    def _read(self, table: WindowTable) -> Iterator[_Batch]:
        points = list(dict.fromkeys(dictionary.hook_point for dictionary in self.dictionaries))
        prefix = 0 if self.model.bos_id is None else 1
        for numbers in plan_batches((table.length + prefix).tolist(), self.settings.batch_tokens):
            windows = {
                row: Window(int(table.document[row]), int(table.start[row]), window_ids(table, row))
                for row in numbers
            }

            def read(some: Sequence[int], of: dict[int, Window] = windows) -> Mapping[HookPoint, Read]:
                return read_windows(self.model, points, [of[row] for row in some])

            def tokens(some: Sequence[int]) -> int:
                return len(some) * (prefix + max(int(table.length[row]) for row in some))

            for some, found in self._fitting.over(numbers, read, tokens=tokens):
                yield _Batch(list(some), [windows[row] for row in some], found)

    def _least(self, parts: list[FeaturePart], batches: list[_Batch]) -> list[Tensor]:
        """For each batch, the k-th largest pre-activation of each token over all parts."""
        dictionary = self.dictionaries[parts[0].dictionary]
        largest: list[Tensor | None] = [None] * len(batches)
        for part in parts:
            features = part_of(dictionary, part, device=self.model.device, dtype=self.model.dtype)
            for number, batch in enumerate(batches):
                read = self._usual(batch, dictionary.hook_point)
                found = [
                    largest_pre_activations(features, read.activations[rows], dictionary.k or 0)
                    for rows in _chunks(read, len(batch.numbers), part.n_features)
                ]
                largest[number] = _merged(largest[number], found, dictionary.k or 0)
        return [torch.zeros(0) if one is None else one[:, -1] for one in largest]

    def _dictionary(self, part: FeaturePart) -> Dictionary:
        with self._held.lock:
            if self._held.part != part or self._held.dictionary is None:
                self._held.dictionary = None
                self._held.dictionary = part_of(
                    self.dictionaries[part.dictionary], part, device=self.model.device, dtype=self.model.dtype
                )
                self._held.part = part
            return self._held.dictionary

    def _usual(self, batch: _Batch, point: HookPoint) -> Read:
        return batch.read[point].usual(self.most_norm[point])

    def _take(
        self,
        accumulator: ShardAccumulator,
        firings: FiringList,
        dictionary: Dictionary,
        batch: _Batch,
        least: Tensor | None,
    ) -> None:
        read = self._usual(batch, dictionary.hook_point)
        counted = len(read.row)
        accumulator.count_tokens(
            seen=int(accumulator.table.length[batch.numbers].sum()),
            counted=counted,
            outliers=len(batch.read[dictionary.hook_point].row) - counted,
        )
        for rows in _chunks(read, len(batch.numbers), dictionary.d_sae):
            chosen = None if least is None else least[rows]
            self._list(firings, dictionary, batch, read, rows, chosen)
            if len(firings) >= _FIRINGS_AT_ONCE:
                accumulator.update(firings.take())

    def _list(
        self,
        firings: FiringList,
        dictionary: Dictionary,
        batch: _Batch,
        read: Read,
        rows: slice,
        least: Tensor | None,
    ) -> None:
        """List the firings of some tokens; on its own, so that their latents are gone before the next."""
        with torch.no_grad():
            values, limit = encoded(dictionary, read.activations[rows], least)
        row, position = read.row[rows], read.position[rows]
        try:
            numbers = np.asarray(batch.numbers, dtype=np.int32)[row]
            firings.add(values, numbers, position.astype(np.int32), limit)
        except NotFiniteError as error:
            window, place = batch.windows[row[error.token]], int(position[error.token])
            raise not_finite(dictionary.hook_point, window, place) from error


def _chunks(read: Read, n_rows: int, n_features: int) -> Iterator[slice]:
    """Tokens that are encoded together: whole rows of the batch, the same ones whenever they are asked for."""
    edges = np.concatenate([[0], np.cumsum(np.bincount(read.row, minlength=n_rows))])
    for rows in row_chunks(np.diff(edges).tolist(), max(_LATENTS_AT_ONCE // n_features, 1)):
        tokens = slice(int(edges[rows.start]), int(edges[rows.stop]))
        if tokens.start < tokens.stop:
            yield tokens


def _merged(so_far: Tensor | None, found: list[Tensor], k: int) -> Tensor | None:
    """The k largest of each token, largest first."""
    if not found:
        return so_far
    new = torch.cat(found)
    both = new if so_far is None else torch.cat([so_far, new], dim=1)
    return both.topk(min(k, both.shape[1]), dim=1).values
