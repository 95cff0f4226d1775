"""Numbers that say whether a set of contexts falls into two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
_TINY = 1e-6

_NEIGHBOURS = 5

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
    *(f"{name} eigenvalue share" for name in ("fourth", "fifth", "sixth", "seventh", "eighth")),
    *(f"eigenvalue {number} over the next, logarithm" for number in range(1, 8)),
)
"""What ``cut_statistics`` gives for each view."""

NEIGHBOUR_STATISTICS = (
    "cosine of nearest contexts",
    "cosine of farthest contexts",
    "deviation of cosines",
    "ninth decile of cosines",
    "first decile of cosines",
)
"""What ``neighbour_statistics`` gives for each view."""


def set_statistics(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers that tell a union of two senses from a single one, of many sets of the same size.

    The ``STATISTICS`` and ``NEIGHBOUR_STATISTICS`` of each view, and how far the views and their mean agree: two senses
    are two in every view, so the cut that one view finds should part the contexts in the others too. By chance a single
    sense falls in two in one view, but hardly in the same way in all.

    Args:
        cosines: Gram matrices of rows of norm 1, [sets, views, contexts, contexts].

    Returns:
        [sets, numbers].
    """
    views = list(cosines.swapaxes(0, 1))
    found, halves = zip(*(cut_statistics(one) for one in (*views, cosines.mean(axis=1))), strict=True)
    # The mean view's own statistics add nothing to those of its parts; where it cuts them does.
    columns = [*found[:-1], *(neighbour_statistics(one) for one in views)]
    for cut_in, cut in enumerate(halves):
        for seen_in, one in enumerate(views):
            if cut_in != seen_in:
                within, between = within_between(one, cut)
                columns += [(within - between)[:, None], (between / np.maximum(within, 1e-3))[:, None]]
        columns += [_agreement(cut, other)[:, None] for other in halves[:cut_in]]
    return np.concatenate(columns, axis=1)


def cut_statistics(cosines: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ``STATISTICS`` of many sets of the same size in one view, and where 2-means cuts them.

    Args:
        cosines: [sets, contexts, contexts], at least eight contexts.

    Returns:
        [sets, statistics], and who is in the second half, 0 or 1, [sets, contexts].
    """
    number = cosines.shape[1]
    centring = np.eye(number) - 1 / number
    values, vectors = np.linalg.eigh(centring @ cosines @ centring)
    values = np.maximum(values[:, ::-1], 0)
    spread = values / np.maximum(values.sum(1, keepdims=True), _TINY)
    component = vectors[:, :, -1]
    separation, cut = best_cut(component)
    halves = two_means(cosines, cut)
    mean = (cosines.sum((1, 2)) - np.trace(cosines, axis1=1, axis2=2)) / (number * (number - 1))
    within, between = within_between(cosines, halves)
    columns = [
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
        *spread[:, 3:8].T,
        *np.log((spread[:, :7] + _TINY) / (spread[:, 1:8] + _TINY)).T,
    ]
    return np.stack(columns, axis=1), halves


def neighbour_statistics(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ``NEIGHBOUR_STATISTICS`` of many sets of the same size in one view, [sets, statistics].

    Args:
        cosines: [sets, contexts, contexts], at least six contexts.
    """
    sets, number, _ = cosines.shape
    others = cosines[:, ~np.eye(number, dtype=bool)].reshape(sets, number, number - 1)
    others = np.sort(others, axis=2)
    flat = others.reshape(sets, -1)
    low, high = np.quantile(flat, [0.1, 0.9], axis=1)
    nearest, farthest = others[:, :, -_NEIGHBOURS:], others[:, :, :_NEIGHBOURS]
    return np.stack([nearest.mean((1, 2)), farthest.mean((1, 2)), flat.std(1), high, low], axis=1)


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


def _agreement(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far two cuts are the same, whichever half is called the second: 0 to 1, [sets]."""
    return np.asarray(np.abs(((2 * one - 1) * (2 * other - 1)).mean(axis=1)))
