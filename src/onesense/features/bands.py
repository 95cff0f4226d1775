"""Where an activation falls: bins of the log-histogram and bands of the sample.

Both follow from the bits of a float32, so an activation on an edge always falls on the same side. An octave
is [2^e, 2^(e+1)); each is cut into four bins of equal width, as in the HDR histogram. Band 0 of a feature is
the octave of its largest activation, band 1 the octave below it, and so on; the last band holds all the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onesense.features.context_kernel import BINS_PER_OCTAVE, LOWEST_OCTAVE, N_OCTAVES

N_BINS = N_OCTAVES * BINS_PER_OCTAVE


def histogram_edges() -> NDArray[np.float64]:
    """The ``N_BINS + 1`` edges of the log-histogram's bins, ascending; bin i is [edge i, edge i + 1).

    The outermost bins also hold what lies beyond them.
    """
    octaves = np.arange(LOWEST_OCTAVE, LOWEST_OCTAVE + N_OCTAVES, dtype=np.float64)
    steps = 1.0 + np.arange(BINS_PER_OCTAVE) / BINS_PER_OCTAVE
    edges = (2.0 ** octaves[:, None] * steps).reshape(-1)
    return np.append(edges, 2.0 ** (LOWEST_OCTAVE + N_OCTAVES))


def octaves_of(activations: NDArray[Any]) -> NDArray[np.int64]:
    """Octave of each activation (positive, any shape), clipped to those of the histogram."""
    _, exponents = np.frexp(np.asarray(activations, dtype=np.float32))
    octaves: NDArray[np.int64] = np.clip(
        exponents.astype(np.int64) - 1, LOWEST_OCTAVE, LOWEST_OCTAVE + N_OCTAVES - 1
    )
    return octaves


def band_limits(maximum: float, n_bands: int) -> list[tuple[float, float]]:
    """The half-open range of activations that each band of a feature covers.

    Args:
        maximum: The feature's largest activation, above 0.
        n_bands: Number of bands, at least 2.

    Returns:
        For each band its lower and upper limit, the band of the largest activations first. The limits of the
        outermost octaves are 0 and infinity.
    """
    top = int(octaves_of(np.array([maximum]))[0])
    limits = []
    for band in range(n_bands):
        octave = top - band
        lower = 2.0**octave if octave > LOWEST_OCTAVE and band < n_bands - 1 else 0.0
        upper = 2.0 ** (octave + 1) if octave < LOWEST_OCTAVE + N_OCTAVES - 1 else np.inf
        limits.append((lower, upper if octave >= LOWEST_OCTAVE else 0.0))
    return limits


def band_counts(histogram: NDArray[Any], maximum: float, n_bands: int) -> NDArray[np.int64]:
    """How many firings of a feature fall into each of its bands, [n_bands].

    Args:
        histogram: The feature's counts by bin, [N_BINS].
        maximum: The feature's largest activation; 0 where it never fired.
        n_bands: Number of bands, at least 2.
    """
    counts = np.zeros(n_bands, dtype=np.int64)
    if maximum > 0:
        by_octave = np.asarray(histogram, dtype=np.int64).reshape(N_OCTAVES, BINS_PER_OCTAVE).sum(axis=1)
        top = int(octaves_of(np.array([maximum]))[0]) - LOWEST_OCTAVE
        for octave in range(top + 1):
            counts[min(top - octave, n_bands - 1)] += by_octave[octave]
    return counts
