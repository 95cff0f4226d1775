"""Latents and channels with a concept that is planted, and without one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Planted(NamedTuple):
    latents: NDArray[np.float32]
    labels: NDArray[np.bool_]
    documents: list[int]


def noise(documents: int, *, columns: int = 30, seed: int = 0) -> Planted:
    """Sparse latents that know nothing of the labels; each document has a row of both classes."""
    generator = np.random.default_rng(seed)
    rows = 2 * documents
    latents = generator.gamma(1.0, size=(rows, columns)) * (generator.random((rows, columns)) < 0.3)
    labels = np.tile([True, False], documents)
    return Planted(latents.astype(np.float32), labels, [row // 2 for row in range(rows)])


def with_label(documents: int, *, at: int, strength: float = 1.0, seed: int = 0) -> Planted:
    """The same with a latent that is the label."""
    planted = noise(documents, seed=seed)
    planted.latents[:, at] = strength * planted.labels
    return planted
