"""The senses of a unit: as many groups of its contexts as the judge says that it has senses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from onesense.senses.activity import Floats
from onesense.senses.judge import Cosines, Judge
from onesense.senses.sampling import shares

THRESHOLD = 0.8
# Fewer contexts are outliers and no sense.
_SMALLEST_SENSE = 3
_OUTLYING_GROUPS = 2
_STARTS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Senses:
    """The senses of one unit.

    Attributes:
        labels: Sense of each context of the sample; the largest sense is 0, [contexts].
        shares: Of the activation, largest first, [senses].
        several: How much all contexts together look like more than one sense, from 0 to 1.
        separation: Mean cosine of contexts of the same sense minus that of contexts of different ones; NaN for
            one sense.
    """

    labels: NDArray[np.int64]
    shares: NDArray[np.float64]
    several: float
    separation: float

    @property
    def number(self) -> int:
        """How many senses."""
        return len(self.shares)

    @property
    def effective(self) -> float:
        """Effective number of senses: exp of the entropy of the shares, from 1 to ``number``."""
        return float(np.exp(-(self.shares * np.log(self.shares)).sum()))


def partition(
    cosines: Cosines, values: Floats, judge: Judge, *, threshold: float = THRESHOLD
) -> Senses | None:
    """The senses of one unit; see ``partition_all``."""
    return partition_all([cosines], [values], judge, threshold=threshold)[0]


def partition_all(
    sets: Sequence[Cosines], values: Sequence[Floats], judge: Judge, *, threshold: float = THRESHOLD
) -> list[Senses | None]:
    """The senses of several units.

    A set of contexts that the judge takes for a union is parted into the most probable number of groups, by k-means
    over the principal components of the mean of the views' cosines. A group of fewer than three contexts is no sense:
    its contexts are outliers, and go to the group that they are nearest to.

    Args:
        sets: Cosines of each unit's contexts, [views, contexts, contexts], in random order.
        values: The unit's latent at each context, above 0.
        judge: Who says how many senses a set has.
        threshold: A set that looks like more than one sense by more than this has several.

    Returns:
        For each unit its senses, or None where it has too few contexts to judge.
    """
    found: list[Senses | None] = []
    for cosines, value, chance in zip(sets, values, judge.probabilities(sets), strict=True):
        if np.isnan(chance[0]):
            found.append(None)
            continue
        several, labels = 1 - float(chance[0]), np.zeros(len(value), np.int64)
        if several > threshold:
            labels = _groups(cosines, 2 + int(chance[1:].argmax()))
        found.append(_senses(cosines, value, labels, several))
    return found


def _groups(cosines: Cosines, number: int) -> NDArray[np.int64]:
    """So many groups of contexts, or fewer where no more than outliers can be told apart, [contexts]."""
    mean = cosines.mean(axis=0)
    values, vectors = np.linalg.eigh(mean)
    found = np.zeros(len(mean), np.int64)
    # Outliers take groups for themselves, so some more may be needed.
    for groups in range(number, min(number + _OUTLYING_GROUPS, len(mean)) + 1):
        rows = vectors[:, -groups:] * np.sqrt(np.maximum(values[-groups:], 0))
        labels = KMeans(groups, n_init=_STARTS, random_state=0).fit_predict(rows).astype(np.int64)
        kept = np.flatnonzero(np.bincount(labels, minlength=groups) >= _SMALLEST_SENSE)
        told = _nearest(mean, labels, kept)
        if len(kept) > 1 and _separation(mean, told) <= 0:
            continue
        if len(kept) >= number:
            return told
        if groups == number:
            found = told
    return found


def _nearest(
    cosines: NDArray[np.float64], labels: NDArray[np.int64], kept: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Groups counted from 0, those that are not kept given to the kept one with the largest mean cosine, [contexts]."""
    if not len(kept):
        return np.zeros(len(labels), np.int64)
    toward = np.stack([cosines[:, labels == one].mean(axis=1) for one in kept], axis=1)
    own = labels[:, None] == kept
    nearest = np.where(own.any(axis=1), own.argmax(axis=1), toward.argmax(axis=1))
    return np.asarray(nearest, np.int64)


def _senses(cosines: Cosines, values: Floats, labels: NDArray[np.int64], several: float) -> Senses:
    found = shares(values, labels, int(labels.max()) + 1)
    order = np.argsort(-found, kind="stable")
    labels = np.argsort(order, kind="stable")[labels]
    separation = _separation(cosines.mean(axis=0), labels) if len(order) > 1 else float("nan")
    return Senses(labels, found[order], several, separation)


def _separation(cosines: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean cosine of contexts of the same group minus that of contexts of different ones."""
    same = labels[:, None] == labels
    pairs = ~np.eye(len(labels), dtype=bool)
    return float(cosines[same & pairs].mean() - cosines[~same].mean())
