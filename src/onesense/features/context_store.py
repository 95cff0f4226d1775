"""Contexts on disk, and the class that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onesense.errors import FormatError, NotFoundError
from onesense.features.bands import band_counts, band_limits
from onesense.features.context_accumulator import Arrays, ContextAccumulator
from onesense.store.run_folder import RunFolder

STATISTICS = "stats"
FEATURES_PER_BLOCK = 256
_BLOCKS_IN_MEMORY = 4
_LAYOUT = 2  # of the files: 1 had the histograms among the statistics


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """A stretch of text around a place where a feature fires.

    Attributes:
        document: Number of the document.
        position: Offset of the peak within the document, in tokens, BOS not counted.
        token_ids: The tokens around it, up to the edges of the window that the model saw, int64 [n].
        activations: The feature's activation at each of them, float32 [n]; 0 where a token does not count
            (special, or of outlying norm). Exact at the peak, rounded to float16 elsewhere.
        peak: Index of the peak among ``token_ids``.
    """

    document: int
    position: int
    token_ids: NDArray[np.int64]
    activations: NDArray[np.float32]
    peak: int

    @property
    def activation(self) -> float:
        """The activation at the peak."""
        return float(self.activations[self.peak])


def block_name(block: int) -> str:
    """Name of the result that holds a block of features."""
    return f"contexts/block-{block:04d}"


def write_contexts(run: RunFolder, accumulator: ContextAccumulator, identity: Arrays) -> None:
    """Write all that is known of all features.

    Args:
        run: Where to.
        accumulator: All the text, merged.
        identity: Arrays to keep beside the statistics: what they were made from.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
    """
    write_blocks(run, accumulator, first=0)
    write_statistics(run, accumulator.statistics(), accumulator.shape.bands, identity)


def write_blocks(run: RunFolder, accumulator: ContextAccumulator, *, first: int) -> None:
    """Write contexts and histograms of neighbouring features, block by block.

    Args:
        run: Where to.
        accumulator: All the text, merged, for features from ``first`` on.
        first: A feature with which a block begins.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
    """
    n = accumulator.shape.n_features
    accumulator.arrange()
    for start in range(0, n, FEATURES_PER_BLOCK):
        block = accumulator.block(start, min(start + FEATURES_PER_BLOCK, n))
        run.write_result(block_name((first + start) // FEATURES_PER_BLOCK), block)


def write_statistics(run: RunFolder, statistics: Arrays, bands: int, identity: Arrays) -> None:
    """Write what there is of every feature, whose presence says that all blocks are there.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
    """
    layout = np.array([FEATURES_PER_BLOCK, bands, _LAYOUT], np.int64)
    run.write_result(STATISTICS, {**statistics, **identity, "layout": layout})


def all_blocks(run: RunFolder) -> bool:
    """Whether every block is there; a user may have deleted one that was damaged, and then the text is read again.

    Raises:
        FormatError: The statistics are damaged.
    """
    contexts = Contexts(run)
    return all(run.has_result(block_name(block)) for block in range(contexts.n_blocks))


class Contexts:
    """Statistics and contexts of every feature of a run.

    Attributes:
        count: Firings of each feature, int64 [d_sae].
        mean: Mean activation over the firings, float64 [d_sae]; 0 where there are none.
        variance: Population variance over the firings, float64 [d_sae].
        maximum: Largest activation, float32 [d_sae].
        tokens_counted: Tokens that count (not BOS, special, padding, or outlying): what a density is out of.
        tokens_seen: Tokens of the text, those that do not count included.
        outliers: Tokens left out because the norm of their activation is outlying.
        n_bands: Activation bands of the sample.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        statistics = run.read_result(STATISTICS)
        try:
            self.count: NDArray[np.int64] = statistics["count"]
            self.mean: NDArray[np.float64] = statistics["mean"]
            self.variance: NDArray[np.float64] = statistics["variance"]
            self.maximum: NDArray[np.float32] = statistics["maximum"]
            self.tokens_counted, self.tokens_seen, self.outliers = (
                int(statistics[name][0]) for name in ("tokens", "tokens_seen", "outliers")
            )
            self._per_block, self.n_bands, layout = (int(number) for number in statistics["layout"])
            if layout != _LAYOUT:
                raise ValueError(f"layout {layout}")
        except (KeyError, ValueError, IndexError) as error:
            raise FormatError(
                f"{run.result_path(STATISTICS)} does not hold context statistics ({error}).",
                hint="Delete the run folder and run `onesense extract` again.",
            ) from error
        self._block = lru_cache(_BLOCKS_IN_MEMORY)(self._read_block)

    @classmethod
    def open(cls, run_folder: RunFolder | Path | str) -> Contexts:
        """Open the contexts of a run.

        Raises:
            NotFoundError: There is no such run, or its contexts are not finished.
            FormatError: A file is damaged.
        """
        run = run_folder if isinstance(run_folder, RunFolder) else RunFolder.open(run_folder)
        return cls(run)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.count)

    @property
    def n_blocks(self) -> int:
        """Files that the contexts are in."""
        return -(-self.n_features // self._per_block) if self._per_block > 0 else 0

    @property
    def density(self) -> NDArray[np.float64]:
        """Share of the counted tokens at which each feature fires, [d_sae]."""
        share: NDArray[np.float64] = self.count / max(self.tokens_counted, 1)
        return share

    def top(self, feature: int) -> list[Context]:
        """The strongest contexts of a feature, strongest first, each from another document.

        Raises:
            NotFoundError: There is no such feature.
        """
        return self._contexts("top", feature, ())

    def sample(self, feature: int, band: int) -> list[Context]:
        """A uniform random sample of a feature's firings in one band; its first m are a sample of m.

        The activation at the peak is in the band; a neighbour's may be larger.

        Args:
            feature: The feature.
            band: 0 is the octave of the feature's largest activation, then each octave below it; the last
                band holds all the rest. See ``band_limits``.

        Raises:
            NotFoundError: There is no such feature or band.
        """
        if not 0 <= band < self.n_bands:
            raise NotFoundError(f"There is no band {band}.", hint=f"Bands run from 0 to {self.n_bands - 1}.")
        return self._contexts("sample", feature, (band,))

    def band_limits(self, feature: int) -> list[tuple[float, float]]:
        """Lower and upper limit of each band's activations; empty where the feature never fired."""
        maximum = float(self.maximum[self._checked(feature)])
        return band_limits(maximum, self.n_bands) if maximum > 0 else []

    def band_counts(self, feature: int) -> NDArray[np.int64]:
        """Firings in each band, [n_bands]: what a sample's contexts stand for."""
        feature = self._checked(feature)
        return band_counts(self.histogram(feature), float(self.maximum[feature]), self.n_bands)

    def histogram(self, feature: int) -> NDArray[np.int64]:
        """Firings of a feature by bin of ``bands.histogram_edges``, [N_BINS].

        Raises:
            NotFoundError: There is no such feature.
        """
        block, row = divmod(self._checked(feature), self._per_block)
        counts: NDArray[np.int64] = self._block(block)["histogram"][row]
        return counts

    def _checked(self, feature: int) -> int:
        if not 0 <= feature < self.n_features:
            raise NotFoundError(
                f"There is no feature {feature}.", hint=f"Features run from 0 to {self.n_features - 1}."
            )
        return feature

    def _read_block(self, block: int) -> Arrays:
        return self._run.read_result(block_name(block))

    def _contexts(self, kind: str, feature: int, band: tuple[int, ...]) -> list[Context]:
        block, row = divmod(self._checked(feature), self._per_block)
        arrays = self._block(block)
        where = (row, *band)

        def column(name: str) -> NDArray[Any]:
            array: NDArray[Any] = arrays[f"{kind}_{name}"][where]
            return array

        used = int((column("length") > 0).sum())
        contexts = []
        for slot in range(used):
            length, peak = int(column("length")[slot]), int(column("peak")[slot])
            activations = column("activations")[slot, :length].astype(np.float32)
            activations[peak] = column("activation")[slot]
            contexts.append(
                Context(
                    document=int(column("document")[slot]),
                    position=int(column("position")[slot]),
                    token_ids=column("tokens")[slot, :length].astype(np.int64),
                    activations=activations,
                    peak=peak,
                )
            )
        return contexts
