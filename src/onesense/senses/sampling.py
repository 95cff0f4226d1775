"""Which contexts stand for a unit: drawn by activation, and far apart from one another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesense.senses.activity import Firings, Floats, Ints

# Neighbouring tokens share most of their context; one of each stretch is enough.
_STRETCH = 32


class Sample(NamedTuple):
    """Contexts of one unit.

    Attributes:
        position: Rows among the positions of the activity, in the order of the draw, [n].
        value: The unit's latent there, [n].
    """

    position: Ints
    value: Floats

    def __len__(self) -> int:
        """How many contexts."""
        return len(self.position)

    def take(self, index: NDArray[np.integer]) -> Sample:
        """Some of them."""
        return Sample(self.position[index], self.value[index])


def sample_contexts(firings: Firings, unit: int, number: int, *, seed: int) -> Sample:
    """Draw contexts of a unit without replacement, each with a chance that grows with its activation.

    Senses then count by the activation that they carry, as the effective number of senses does; weak firings,
    of which there are most and which mean least, do not swamp the strong ones. At most one context is taken of
    every 32 positions in a row.

    Args:
        firings: Of the unit's set.
        unit: Which.
        number: How many at most; fewer where the unit fires in fewer places.
        seed: Of the draw.

    Returns:
        The contexts in random order, so that the first n of them are a sample too.
    """
    position, value = firings.of(unit)
    if not len(position):
        return Sample(position, value)  # most units of a wide dictionary on a short text
    generator = np.random.default_rng([seed, unit])
    # Efraimidis and Spirakis (2006): the largest weight / exponential are a sample by weight.
    keys = value / generator.exponential(size=len(value))
    order = np.argsort(-keys, kind="stable")
    _, first = np.unique(position[order] // _STRETCH, return_index=True)
    chosen = order[np.sort(first)][:number]
    return Sample(position[chosen], value[chosen])


def united(*parts: Sample) -> Sample:
    """The contexts of several units as those of one."""
    position, value = zip(*parts, strict=True)
    return Sample(np.concatenate(position), np.concatenate(value))


def sample_all(firings: Firings, number: int, *, seed: int) -> list[Sample]:
    """Contexts of every unit; see ``sample_contexts``."""
    return [sample_contexts(firings, unit, number, seed=seed) for unit in range(len(firings.pointer) - 1)]


def shares(values: NDArray[np.floating], labels: NDArray[np.integer], groups: int) -> NDArray[np.float64]:
    """Share of the activation that falls to each group, [groups].

    Args:
        values: Latents, [n].
        labels: Group of each, [n].
        groups: How many.
    """
    mass = np.bincount(labels, weights=values.astype(np.float64), minlength=groups)
    return np.asarray(mass / mass.sum())
