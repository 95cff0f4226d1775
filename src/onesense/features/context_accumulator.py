"""Running statistics and kept contexts of every feature, in memory that does not grow with the text.

Everything here is exact and does not depend on how the text is cut into shards, except the last bits of mean
and variance: shards are merged in their order, with Chan, Golub and LeVeque's update (1979), in float64.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

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
from onesense.features.context_order import arrange

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
        self.moments = Moments(
            _filled((n,), 0, np.int64),
            _filled((n,), 0, np.float64),
            _filled((n,), 0, np.float64),
            _filled((n,), 0, np.float32),
            _filled((n, N_BINS), 0, np.int64),
        )
        self.top = _slots(shape, 1, shape.top_k, ids)
        self.sample = _slots(shape, shape.bands, shape.per_band, ids)
        self.top_octave = _filled((n,), NO_OCTAVE, np.int64)
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
            arrange(slots)
            arrays |= {f"{name}_{field}": getattr(slots, field) for field in Kept._fields}
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
        """Count, mean, population variance and maximum of each feature's firings; token totals."""
        count, mean, m2, maximum, _ = self.moments
        return {
            "count": count,
            "mean": mean,
            "variance": m2 / np.maximum(count, 1),
            "maximum": maximum,
            "tokens": np.array([self.tokens_counted], np.int64),
            "tokens_seen": np.array([self.tokens_seen], np.int64),
            "outliers": np.array([self.outliers], np.int64),
        }

    def arrange(self) -> None:
        """Put the contexts in order; call it before ``block``."""
        arrange(self.top)
        arrange(self.sample)

    def block(self, start: int, stop: int) -> Arrays:
        """Contexts and histograms of some features as arrays for a file.

        The strongest stand by activation, then position in the text. A sample stands by its random priority,
        so that its first m are a sample of m. Free places have length 0.
        """
        arrays = _written("top", _rows(self.top, start, stop))
        sample = _written("sample", _rows(self.sample, start, stop))
        shape = self.shape
        tops = octaves_of(np.maximum(self.moments.maximum[start:stop], np.float32(2.0**LOWEST_OCTAVE)))
        # Strongest band first; ``context_kernel._band`` says in which table each lives.
        tables = (tops[:, None] - np.arange(shape.bands) - LOWEST_OCTAVE) % (shape.bands - 1)
        tables[:, -1] = shape.bands - 1
        rows = np.arange(stop - start)[:, None]
        for name, array in sample.items():
            by_table = array.reshape(stop - start, shape.bands, shape.per_band, *array.shape[2:])
            arrays[name] = by_table[rows, tables]
        arrays["histogram"] = self.moments.histogram[start:stop]
        return arrays


def _written(name: str, slots: Slots) -> Arrays:
    """Slots as the arrays that are written, with zeros and padding in those that are free."""
    used = slots.key >= 0
    padding = slots.ids.dtype.type(np.iinfo(slots.ids.dtype).max)
    ids = np.where(used[..., None], slots.ids, padding)
    return {
        f"{name}_activation": np.where(used, slots.value, np.float32(0)),
        f"{name}_document": np.where(used, slots.key >> 32, 0).astype(np.uint32),
        f"{name}_position": np.where(used, slots.key & (2**32 - 1), 0).astype(np.uint32),
        f"{name}_peak": np.where(used, slots.peak, np.uint16(0)),
        f"{name}_length": (ids != padding).sum(axis=2).astype(np.uint16),
        f"{name}_tokens": ids,
        f"{name}_activations": np.where(used[..., None], slots.activations, np.uint16(0)).view(np.float16),
    }


def _slots(shape: ContextShape, tables: int, per_table: int, ids: np.dtype[Any] | None) -> Slots:
    """Empty slots: with room for token ids (the whole), or for the window's number (a shard)."""
    n, slots = shape.n_features, tables * per_table
    sampled = slots if tables > 1 else 0
    return Slots(
        value=_filled((n, slots), 0, np.float32),
        key=_filled((n, slots), EMPTY, np.int64),
        priority=_filled((n, sampled), 0, np.uint64),
        peak=_filled((n, slots), 0, np.uint16),
        window=_filled((n, slots if ids is None else 0), 0, np.int32),
        activations=_filled((n, slots, shape.width), 0, np.uint16),
        ids=_filled((n, 0 if ids is None else slots, shape.width), 0, ids or np.uint16),
        worst=_filled((n, tables), EMPTY, np.int32),
    )


def _filled(shape: tuple[int, ...], value: int, dtype: DTypeLike) -> NDArray[Any]:
    """An array in a memory mapping of its own, filled, so that all its memory is taken at once.

    The mapping goes back to the system as soon as the array is gone. From malloc, tables that come and go with
    every shard end up in pieces of each other, and memory creeps up.
    """
    array: NDArray[Any] = np.empty(0, dtype).reshape(shape) if 0 in shape else _mapped(shape, dtype)
    array.fill(value)
    return array


def _mapped(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    mapping = mmap.mmap(-1, size, access=mmap.ACCESS_COPY)  # not shared: only such memory has large pages
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel without large pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapping, dtype).reshape(shape)


def _rows(slots: Slots, start: int, stop: int) -> Slots:
    arrays: list[NDArray[Any]] = [*slots]
    return Slots._make(array[start:stop] for array in arrays)
