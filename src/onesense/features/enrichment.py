"""Are more of some tokens in a set of words than chance would put there? For many features and sets at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

NO_TOKEN = -1
"""In place of a token id: nothing was drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Enrichment:
    """What was drawn of each set by each feature.

    Attributes:
        hits: Draws in the set, int64 [n_sets, n_features].
        drawn: Draws of each feature, int64 [n_features].
        background: Share of the population that is in the set, float64 [n_sets].
        p: Chance of so many hits or more, float64 [n_sets, n_features].
    """

    hits: NDArray[np.int64]
    drawn: NDArray[np.int64]
    background: NDArray[np.float64]
    p: NDArray[np.float64]


def enrichment(
    members: NDArray[np.bool_], draws: NDArray[np.integer], population: NDArray[np.int64] | None = None
) -> Enrichment:
    """Compare the tokens that each feature drew with a population, set by set.

    Args:
        members: Which tokens are in which sets, [n_sets, n_tokens].
        draws: Token ids by feature, [n_features, most draws], ``NO_TOKEN`` where there is none. Draws are
            without replacement: from the vocabulary no token comes twice.
        population: How often each token is there to be drawn, [n_tokens]; None for once each.
    """
    n_tokens = members.shape[1]
    counts = np.ones(n_tokens, np.int64) if population is None else population
    present = draws != NO_TOKEN
    drawn = present.sum(axis=1)
    total, inside = int(counts.sum()), (members @ counts.astype(np.float64)).round().astype(np.int64)
    hits = np.zeros((len(members), len(draws)), np.int64)
    safe = np.where(present, draws, 0)
    for row, member in enumerate(members):
        hits[row] = (member[safe] & present).sum(axis=1)
    p = hypergeometric_tail(hits, total, inside[:, None], drawn[None, :])
    return Enrichment(hits, drawn, inside / max(total, 1), p)


def hypergeometric_tail(
    hits: ArrayLike, population: int, marked: ArrayLike, drawn: ArrayLike
) -> NDArray[np.float64]:
    """The chance of at least so many marked ones among those drawn: the upper tail, ends included.

    The same as ``scipy.stats.hypergeom.sf(hits - 1, population, marked, drawn)``, which takes a quarter of a
    millisecond for each. Arguments are broadcast against each other; equal ones are computed once.

    Args:
        hits: Marked ones among those drawn.
        population: How many there are.
        marked: How many of them are marked.
        drawn: How many are drawn, without replacement.
    """
    hits, marked, drawn = np.broadcast_arrays(
        *(np.asarray(given, np.int64) for given in (hits, marked, drawn))
    )
    p = np.ones(hits.shape)
    some = hits > np.maximum(0, drawn + marked - population)  # fewer than the fewest possible: certain
    if not some.any():
        return p
    cases, where = _distinct(hits[some], marked[some], drawn[some])
    p[some] = _tail(cases, population)[where]
    return p


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjusted q values over all of ``p`` (Benjamini and Hochberg 1995), in its shape.

    A test is kept at level a where its q is at most a; of those kept, the share that is false is at most a
    on average.
    """
    flat = p.ravel()
    order = np.argsort(flat, kind="stable")
    scaled = flat[order] * (flat.size / np.arange(1, flat.size + 1))
    q = np.empty_like(flat)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q.reshape(p.shape)


def _distinct(
    hits: NDArray[np.int64], marked: NDArray[np.int64], drawn: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Distinct cases [n, 3], and the place of each given one among them."""
    of_marked, marked_at = np.unique(marked, return_inverse=True)
    n_hits, n_drawn = int(hits.max()) + 1, int(drawn.max()) + 1
    keys, where = np.unique((marked_at * n_drawn + drawn) * n_hits + hits, return_inverse=True)
    rest, hit = np.divmod(keys, n_hits)
    at, draw = np.divmod(rest, n_drawn)
    return np.stack([hit, of_marked[at], draw], axis=1), where


def _tail(cases: NDArray[np.int64], population: int) -> NDArray[np.float64]:
    """Add up the chances from ``hits`` on, each from the one before by their ratio."""
    hit, marked, drawn = (column.astype(np.float64) for column in cases.T)
    unmarked = population - marked
    tail = np.zeros(len(cases))
    term = np.exp(_log_chance(hit, population, marked, drawn))
    for _ in range(int(np.max(np.minimum(marked, drawn) - hit)) + 1):
        tail += term
        more = (marked - hit) * (drawn - hit)
        term = term * np.maximum(more, 0) / ((hit + 1) * np.maximum(unmarked - drawn + hit + 1, 1))
        hit = hit + 1
    return np.minimum(tail, 1.0)


def _log_chance(
    hit: NDArray[np.float64], population: int, marked: NDArray[np.float64], drawn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log-probability of exactly ``hit``; minus infinity where that cannot be."""
    unmarked = population - marked
    possible = (hit <= marked) & (hit <= drawn) & (drawn - hit <= unmarked)
    safe = np.where(possible, hit, np.maximum(0.0, drawn - unmarked))
    log = (
        _log_choose(marked, safe)
        + _log_choose(unmarked, drawn - safe)
        - _log_choose(float(population), drawn)
    )
    return np.where(possible, log, -np.inf)


def _log_choose(n: NDArray[np.float64] | float, k: NDArray[np.float64]) -> NDArray[np.float64]:
    log: NDArray[np.float64] = -betaln(n - k + 1, k + 1) - np.log1p(n)
    return log
