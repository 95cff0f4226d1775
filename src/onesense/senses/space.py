"""Where contexts lie, so that contexts of one sense are near one another.

The residual stream is anisotropic: raw contexts are 0.9 alike whatever they are, and whitening by their overall
covariance does not help, since most of that covariance is what contexts of one and the same feature differ in.
So the metric is learned from the dictionary itself. Fisher's discriminant analysis over its features (Fisher
1936; Rao 1948) keeps the directions in which contexts of different features differ more than contexts of one
feature do. It is made twice: once with what each feature writes taken out, so that what is left is what its contexts
share besides it; and once with that left in, which keeps the directions that the features themselves write, where
the senses of a unit differ that writes their mean. A third view is which other features fire there, rare ones counting
more (inverse document frequency).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from onesense.errors import ConfigurationError
from onesense.senses.activity import Activity, Firings, Floats
from onesense.senses.sampling import Sample

_SHRINKAGE = 0.01
_DIRECTIONS = (300, 50)
_TOLD_APART = 300
_SAME_DIRECTION = 0.7
_TINY = 1e-9

VIEWS = (
    "stream, 300 directions",
    "stream, 50 directions",
    "stream, what features write",
    "co-active features",
)
"""How a context is seen; each gives a vector of norm 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Discriminants:
    """Directions of the stream in which contexts of different features differ most.

    Attributes:
        centre: Mean of the contexts on which they were learned, [d_model].
        projection: From the stream to the directions, strongest first, each scaled, [d_model, directions].
    """

    centre: Floats
    projection: Floats

    def of(self, stream: Floats) -> Floats:
        """Contexts along these directions, [contexts, directions]."""
        return np.asarray((stream - self.centre) @ self.projection, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class SenseSpace:
    """Vectors of contexts.

    Attributes:
        activity: The text.
        shared: In what contexts of different features differ besides what the features write; strong directions
            count more.
        written: In what they differ, what they write included; all directions count alike.
        latents: Square roots of the reference features, weighted by rarity, [positions, features].
        directions: What each reference feature writes, of norm 1, [features, d_model].
    """

    activity: Activity
    shared: Discriminants
    written: Discriminants
    latents: csr_array[np.float32]
    directions: Floats

    def vectors(self, sample: Sample, direction: Floats, *, makers: Floats | None = None) -> ContextVectors:
        """The contexts of a unit as vectors.

        Args:
            sample: The contexts.
            direction: What the unit itself writes, [d_model]: it is taken out, or all contexts of a unit would
                be alike for that alone. So are features that write the same (cosine above 0.7).
            makers: Directions of the features that the unit was put together from, [makers, d_model]: features that
                write the same as one of these are left out too, or their own firings would give the union away.
        """
        stream = self.activity.rows(sample.position)
        stream = stream - np.outer(stream @ direction, direction)
        own = direction.reshape(1, -1)
        known = own if makers is None else np.concatenate([own, makers])
        firing = self.latents[sample.position]
        # Of those that fire here only: comparing all would cost more the wider the dictionary is.
        features, column = np.unique(firing.indices, return_inverse=True)
        others = np.asarray((self.directions[features] @ known.T).max(axis=1) <= _SAME_DIRECTION, np.float32)
        kept = csr_array((firing.data * others[column], firing.indices, firing.indptr), shape=firing.shape)
        return ContextVectors(self.shared.of(stream), self.written.of(stream), kept)


@dataclass(frozen=True, slots=True, eq=False)
class ContextVectors:
    """Contexts in all ``VIEWS``.

    Attributes:
        shared: Along the directions of ``SenseSpace.shared``, [contexts, directions].
        written: Along those of ``SenseSpace.written``, [contexts, directions].
        firing: Features that fire there, rare ones counting more, [contexts, features].
    """

    shared: Floats
    written: Floats
    firing: csr_array[np.float32]

    def __len__(self) -> int:
        """How many contexts."""
        return len(self.shared)

    def take(self, index: NDArray[np.integer] | slice) -> ContextVectors:
        """Some of the contexts."""
        return ContextVectors(self.shared[index], self.written[index], self.firing[index])

    def cosines(self) -> NDArray[np.float64]:
        """Of all pairs of contexts in each view, [views, contexts, contexts]."""
        seen = [unit_rows(self.shared[:, :number]) for number in _DIRECTIONS]
        seen.append(unit_rows(self.written))
        inner = (self.firing @ self.firing.T).toarray().astype(np.float64)
        norms = np.sqrt(np.maximum(np.diagonal(inner), _TINY))
        return np.stack(
            [*((rows @ rows.T).astype(np.float64) for rows in seen), inner / np.outer(norms, norms)]
        )


def fit_space(
    activity: Activity, reference: str, directions: Floats, samples: Sequence[Sample], *, seed: int
) -> SenseSpace:
    """Learn the metric from the contexts of a dictionary's features.

    Args:
        activity: The text.
        reference: Name of the unit set of these features.
        directions: What each feature writes, of norm 1, [features, d_model].
        samples: Contexts of each feature; those with fewer contexts than most are left out. Features that will be
            judged may be among them: their own direction is projected out.
        seed: Of the choice of features, where there are more than it takes.

    Raises:
        ConfigurationError: Too few features with enough contexts.
    """
    number = max((len(one) for one in samples), default=0)
    chosen = np.array([at for at, one in enumerate(samples) if len(one) == number and number >= 8])
    least = 64
    if len(chosen) < least:
        raise ConfigurationError(
            f"Only {len(chosen)} features fire often enough to learn from them what one sense looks like; "
            f"it takes {least}.",
            hint="Read more text: --max-tokens, --text.",
        )
    most = 2500
    chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:most])
    within, besides, whole = _scatter(activity, directions, samples, chosen)
    most = len(chosen) - 1
    projection, strength = _discriminants(within, besides, number, min(max(_DIRECTIONS), most))
    written, _ = _discriminants(within, whole, number, min(_TOLD_APART, most))
    weighted = projection * np.sqrt(strength / (1 + strength))
    return SenseSpace(
        activity,
        Discriminants(besides.mean(0).astype(np.float32), weighted.astype(np.float32)),
        Discriminants(whole.mean(0).astype(np.float32), written.astype(np.float32)),
        _rarity_weighted(activity.firings[reference], len(activity)),
        directions,
    )


def unit_rows(rows: NDArray[np.floating]) -> Floats:
    """Rows at norm 1; rows of zeros stay."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, _TINY), dtype=np.float32)


def _scatter(
    activity: Activity, directions: Floats, samples: Sequence[Sample], chosen: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Covariance within a feature [d_model, d_model], and the mean of each without and with what it writes.

    The means are [features, d_model]; what a feature writes is taken out of the covariance.
    """
    width = directions.shape[1]
    within, contexts = np.zeros((width, width)), 0
    besides, whole = np.empty((len(chosen), width)), np.empty((len(chosen), width))
    for row, feature in enumerate(chosen):
        stream, own = activity.rows(samples[feature].position), directions[feature]
        whole[row] = stream.mean(0)
        besides[row] = whole[row] - (whole[row] @ own) * own
        rest = stream - whole[row].astype(np.float32)
        rest -= np.outer(rest @ own, own)
        within += rest.T @ rest
        contexts += len(stream) - 1
    return within / contexts, besides, whole


def _discriminants(
    within: NDArray[np.float64], means: NDArray[np.float64], contexts: int, number: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions that maximise the covariance between features over that within, and that ratio, strongest first."""
    width = len(within)
    between = np.cov(means.T) - within / contexts
    shrunk = within + _SHRINKAGE * np.trace(within) / width * np.eye(width)
    values, vectors = np.linalg.eigh(shrunk)
    whitening = vectors / np.sqrt(values)
    ratios, rotation = np.linalg.eigh(whitening.T @ between @ whitening)
    ratios, rotation = ratios[::-1], rotation[:, ::-1]
    number = min(number, width)
    return whitening @ rotation[:, :number], np.maximum(ratios[:number], 0)


def _rarity_weighted(firings: Firings, positions: int) -> csr_array[np.float32]:
    features = len(firings.pointer) - 1
    rarity = np.log(positions / np.maximum(firings.count, 1))
    weighted = np.sqrt(firings.value) * np.repeat(rarity, firings.count).astype(np.float32)
    by_feature = csr_array((weighted, firings.position, firings.pointer), shape=(features, positions))
    return csr_array(by_feature.T.tocsr())
