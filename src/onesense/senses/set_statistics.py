"""Numbers that say whether a set of contexts falls into two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
_TINY = 1e-6

STATISTICS = (
    "mean cosine",
    "first eigenvalue share",
    "second eigenvalue share",
    "third eigenvalue share",
    "eigenvalue concentration",
    "one-dimensional separation",
    "one-dimensional balance",
    "first component kurtosis",
    "cosine within, by component",
    "cosine between, by component",
    "cosine within",
    "cosine between",
    "balance",
    "between over within",
)
"""What ``set_statistics`` gives for each view."""


def set_statistics(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ``STATISTICS`` of many sets of the same size, each in one view.

    Args:
        cosines: Gram matrices of rows of norm 1, [sets, contexts, contexts].

    Returns:
        [sets, statistics].
    """
    _sets, number, _ = cosines.shape
    centring = np.eye(number) - 1 / number
    values, vectors = np.linalg.eigh(centring @ cosines @ centring)
    values = np.maximum(values[:, ::-1], 0)
    spread = values / np.maximum(values.sum(1, keepdims=True), _TINY)
    component = vectors[:, :, -1]
    separation, cut = best_cut(component)
    halves = two_means(cosines, cut)
    mean = (cosines.sum((1, 2)) - np.trace(cosines, axis1=1, axis2=2)) / (number * (number - 1))
    within, between = within_between(cosines, halves)
    return np.stack(
        [
            mean,
            *spread[:, :3].T,
            (spread**2).sum(1),
            separation,
            _balance(cut),
            (component**4).sum(1) * number,
            *within_between(cosines, cut),
            within,
            between,
            _balance(halves),
            between / np.maximum(within, 1e-3),
        ],
        axis=1,
    )


def best_cut(component: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cut numbers in two where the variance between the halves is largest (Otsu 1979).

    Args:
        component: Numbers of mean 0 and sum of squares 1, [sets, n].

    Returns:
        The share of the variance that lies between the halves, [sets], and who is in the upper one, 0 or 1,
        [sets, n].
    """
    sets, number = component.shape
    ordered = np.sort(component, axis=1)
    below = np.arange(1, number)
    between = np.cumsum(ordered, axis=1)[:, :-1] ** 2 / (below * (number - below) / number)
    best = between.argmax(axis=1)
    edge = ordered[np.arange(sets), best][:, None]
    upper = (component > edge).astype(np.float64)
    # Where all numbers are equal nothing is above the edge: any cut is as good as any other.
    upper[upper.sum(1) == 0, 0] = 1
    return between[np.arange(sets), best], upper


def two_means(cosines: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lloyd's algorithm for two clusters, on Gram matrices.

    Args:
        cosines: [sets, n, n].
        start: Who is in the second cluster at first, 0 or 1, [sets, n].

    Returns:
        The same in the end; both clusters keep a member.
    """
    halves = start
    for _ in range(_ROUNDS):
        distance = []
        for members in (halves, 1 - halves):
            size = members.sum(1)
            toward = np.einsum("sij,sj->si", cosines, members) / size[:, None]
            own = np.einsum("si,si->s", toward, members) / size
            distance.append(own[:, None] - 2 * toward)
        moved = (distance[0] < distance[1]).astype(np.float64)
        emptied = (moved.sum(1) == 0) | (moved.sum(1) == moved.shape[1])
        moved[emptied] = halves[emptied]
        if np.array_equal(moved, halves):
            break
        halves = moved
    return halves


def within_between(
    cosines: NDArray[np.float64], halves: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean cosine of pairs in the same half, and of pairs across, each [sets]."""
    second, first = halves.sum(1), halves.shape[1] - halves.sum(1)
    trace = np.trace(cosines, axis1=1, axis2=2)
    across = np.einsum("si,sij,sj->s", halves, cosines, 1 - halves)
    together = cosines.sum((1, 2)) - trace - 2 * across
    pairs = second * (second - 1) + first * (first - 1)
    return together / np.maximum(pairs, 1), across / np.maximum(second * first, 1)


def _balance(halves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the smaller half, [sets]."""
    size = halves.sum(1) / halves.shape[1]
    return np.asarray(np.minimum(size, 1 - size))
