"""Running statistics and kept contexts of every feature, in memory that does not grow with the text.

Everything here is exact and does not depend on how the text is cut into shards, except the last bits of mean
and variance: shards are merged in their order, with Chan, Golub and LeVeque's update (1979), in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesense.features.bands import N_BINS, octaves_of
from onesense.features.context_kernel import (
    EMPTY,
    LOWEST_OCTAVE,
    NO_OCTAVE,
    Firings,
    Kept,
    Moments,
    Slots,
    WindowTable,
    absorb_sample,
    absorb_top,
    accumulate,
)

Arrays = dict[str, NDArray[Any]]


class ContextShape(NamedTuple):
    """How much is kept.

    Attributes:
        n_features: Features of the dictionary.
        top_k: Strongest contexts a feature, each from another document.
        bands: Activation bands of the sample, at least 2.
        per_band: Contexts a band.
        width: Tokens of a context.
        seed: Seed of the sample.
    """

    n_features: int
    top_k: int
    bands: int
    per_band: int
    width: int
    seed: int


def token_dtype(n_ids: int) -> np.dtype[Any]:
    """The smallest unsigned integers that hold ``n_ids`` token ids and a mark for padding."""
    return np.dtype(np.uint16 if n_ids < 2**16 else np.uint32)


class _Tables:
    """What shards and the whole have in common."""

    def __init__(self, shape: ContextShape, ids: np.dtype[Any] | None) -> None:
        self.shape = shape
        n = shape.n_features
        # Filled rather than zeroed, so that all the memory is taken at once and never grows.
        self.moments = Moments(
            np.full(n, 0, np.int64),
            np.full(n, 0.0, np.float64),
            np.full(n, 0.0, np.float64),
            np.full(n, 0.0, np.float32),
            np.full((n, N_BINS), 0, np.int64),
        )
        self.top = _slots(shape, 1, shape.top_k, ids)
        self.sample = _slots(shape, shape.bands, shape.per_band, ids)
        self.top_octave = np.full(n, NO_OCTAVE, np.int64)
        self.tokens_counted = 0
        self.tokens_seen = 0
        self.outliers = 0

    def count_tokens(self, *, seen: int, counted: int, outliers: int) -> None:
        """Add to the number of tokens: all but BOS and padding, those that count, those of outlying norm."""
        self.tokens_seen += seen
        self.tokens_counted += counted
        self.outliers += outliers

    @property
    def nbytes(self) -> int:
        """Memory of all the tables."""
        arrays: list[NDArray[Any]] = [*self.moments, *self.top, *self.sample, self.top_octave]
        return sum(array.nbytes for array in arrays)


class ShardAccumulator(_Tables):
    """Statistics of one shard.

    Args:
        shape: How much is kept.
        table: The shard's windows.
    """

    def __init__(self, shape: ContextShape, table: WindowTable) -> None:
        super().__init__(shape, None)
        self.table = table

    def update(self, firings: Firings) -> None:
        """Take in the firings of some whole windows of this shard, each window once."""
        accumulate(
            self.moments,
            self.top,
            self.sample,
            self.top_octave,
            firings,
            self.table,
            np.uint64(self.shape.seed),
        )

    def partial(self) -> Arrays:
        """The shard's outcome as arrays for a file; the same whatever the batches were."""
        count, mean, m2, maximum, histogram = self.moments
        arrays: Arrays = {
            "count": count,
            "mean": mean,
            "m2": m2,
            "maximum": maximum,
            "histogram": histogram.astype(np.uint32),
            "totals": np.array([self.tokens_seen, self.tokens_counted, self.outliers], np.int64),
        }
        arrays |= {f"window_{name}": array for name, array in self.table._asdict().items()}
        for name, slots in (("top", self.top), ("sample", self.sample)):
            arrays |= {f"{name}_{field}": array for field, array in _flat(slots)._asdict().items()}
        return arrays


class ContextAccumulator(_Tables):
    """Statistics of all the text, merged from shards.

    Args:
        shape: How much is kept.
        ids: Integer type of token ids, see ``token_dtype``.
    """

    def __init__(self, shape: ContextShape, ids: np.dtype[Any]) -> None:
        super().__init__(shape, ids)
        self.padding = int(np.iinfo(ids).max)

    def absorb(self, partial: Mapping[str, NDArray[Any]]) -> None:
        """Merge the outcome of the next shard."""
        self._absorb_moments(partial)
        table = WindowTable(*(partial[f"window_{field}"] for field in WindowTable._fields))
        table = table._replace(tokens=table.tokens.astype(self.top.ids.dtype, copy=False))
        top, sample = (
            Kept(*(np.ascontiguousarray(partial[f"{name}_{field}"]) for field in Kept._fields))
            for name in ("top", "sample")
        )
        padding = self.top.ids.dtype.type(self.padding)
        absorb_top(self.top, top, table, padding)
        absorb_sample(
            self.sample,
            self.top_octave,
            np.ascontiguousarray(partial["maximum"]).view(np.uint32),
            sample,
            table,
            padding,
            np.uint64(self.shape.seed),
        )

    def _absorb_moments(self, partial: Mapping[str, NDArray[Any]]) -> None:
        count, mean, m2, maximum, histogram = self.moments
        more = partial["count"]
        total = np.maximum(count + more, 1)
        difference = partial["mean"] - mean
        mean += difference * (more / total)
        m2 += partial["m2"] + difference**2 * (count * (more / total))
        count += more
        np.maximum(maximum, partial["maximum"], out=maximum)
        histogram += partial["histogram"]
        seen, counted, outliers = (int(number) for number in partial["totals"])
        self.count_tokens(seen=seen, counted=counted, outliers=outliers)

    def statistics(self) -> Arrays:
        """Count, mean, population variance, maximum and histogram of each feature's firings; token totals."""
        count, mean, m2, maximum, histogram = self.moments
        return {
            "count": count,
            "mean": mean,
            "variance": m2 / np.maximum(count, 1),
            "maximum": maximum,
            "histogram": histogram,
            "tokens": np.array([self.tokens_counted], np.int64),
            "tokens_seen": np.array([self.tokens_seen], np.int64),
            "outliers": np.array([self.outliers], np.int64),
        }

    def block(self, start: int, stop: int) -> Arrays:
        """The contexts of some features, in order, as dense arrays for a file.

        The strongest stand by activation, then position in the text. A sample stands by its random priority,
        so that its first m are a sample of m. Free places have length 0.
        """
        top, sample = (_rows(slots, start, stop) for slots in (self.top, self.sample))
        order = np.lexsort((top.key, -top.value, top.key < 0), axis=1)
        arrays = self._gathered("top", top, order)
        arrays |= self._gathered("sample", sample, self._sample_order(sample, start, stop))
        shape = self.shape
        for name in [name for name in arrays if name.startswith("sample_")]:
            array = arrays[name]
            arrays[name] = array.reshape(len(array), shape.bands, shape.per_band, *array.shape[2:])
        return arrays

    def _sample_order(self, sample: Slots, start: int, stop: int) -> NDArray[np.int64]:
        """Slots by band, strongest first (``context_kernel._band`` says where each lives), then priority."""
        shape = self.shape
        n = stop - start
        tops = octaves_of(np.maximum(self.moments.maximum[start:stop], np.float32(2.0**LOWEST_OCTAVE)))
        bands = np.arange(shape.bands)
        tables = (tops[:, None] - bands[None, :] - LOWEST_OCTAVE) % (shape.bands - 1)
        tables[:, -1] = shape.bands - 1
        slots = tables[:, :, None] * shape.per_band + np.arange(shape.per_band)
        rows = np.arange(n)[:, None, None]
        key, priority = sample.key[rows, slots], sample.priority[rows, slots]
        within = np.lexsort((key, priority, key < 0), axis=2)
        return np.take_along_axis(slots, within, axis=2).reshape(n, -1)

    def _gathered(self, name: str, slots: Slots, order: NDArray[np.int64]) -> Arrays:
        rows = np.arange(len(order))[:, None]
        key = slots.key[rows, order]
        used = key >= 0
        ids = np.where(used[..., None], slots.ids[rows, order], slots.ids.dtype.type(self.padding))
        activations = np.where(used[..., None], slots.activations[rows, order], np.uint16(0))
        return {
            f"{name}_activation": np.where(used, slots.value[rows, order], np.float32(0)),
            f"{name}_document": np.where(used, key >> 32, 0).astype(np.uint32),
            f"{name}_position": np.where(used, key & (2**32 - 1), 0).astype(np.uint32),
            f"{name}_peak": np.where(used, slots.peak[rows, order], np.uint16(0)),
            f"{name}_length": (ids != self.padding).sum(axis=2).astype(np.uint16),
            f"{name}_tokens": ids,
            f"{name}_activations": activations.view(np.float16),
        }


def _slots(shape: ContextShape, tables: int, per_table: int, ids: np.dtype[Any] | None) -> Slots:
    """Empty slots: with room for token ids (the whole), or for the window's number (a shard)."""
    n, slots = shape.n_features, tables * per_table
    sampled = slots if tables > 1 else 0
    return Slots(
        value=np.full((n, slots), 0.0, np.float32),
        key=np.full((n, slots), EMPTY, np.int64),
        priority=np.full((n, sampled), 0, np.uint64),
        peak=np.full((n, slots), 0, np.uint16),
        window=np.full((n, slots if ids is None else 0), 0, np.int32),
        activations=np.full((n, slots, shape.width), 0, np.uint16),
        ids=np.full((n, 0 if ids is None else slots, shape.width), 0, ids or np.dtype(np.uint16)),
        worst=np.full((n, tables), EMPTY, np.int32),
    )


def _rows(slots: Slots, start: int, stop: int) -> Slots:
    arrays: list[NDArray[Any]] = [*slots]
    return Slots._make(array[start:stop] for array in arrays)


def _flat(slots: Slots) -> Kept:
    """The slots in use, by feature, then activation, then place in the text."""
    feature, slot = np.nonzero(slots.key >= 0)
    order = np.lexsort((slots.key[feature, slot], -slots.value[feature, slot], feature))
    feature, slot = feature[order], slot[order]
    return Kept(
        feature.astype(np.int32),
        slots.value[feature, slot],
        slots.key[feature, slot],
        slots.peak[feature, slot],
        slots.window[feature, slot],
        slots.activations[feature, slot],
    )
