"""The senses of all units of a set, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from onesense.senses.activity import Activity, Firings
from onesense.senses.partition import Senses
from onesense.senses.sampling import Sample


@dataclass(frozen=True, slots=True, eq=False)
class SenseTable:
    """One row a unit. A unit with too few contexts, or with contexts of one document only, has no number.

    Attributes:
        number: Senses; 0 where nobody knows, int32 [units].
        effective: Effective number of senses: exp of the entropy of activation over senses; NaN where nobody
            knows, [units].
        several: How much the contexts look like more than one sense, 0 to 1, [units].
        separation: Mean cosine within senses minus between them; NaN for one sense, [units].
        token_entropy: Of the tokens at the contexts, weighted by activation, nats, [units].
        density: Share of the positions at which the unit fires, [units].
        documents: Documents among its contexts, int32 [units].
        position: Contexts as rows of the activity, -1 behind the last, int32 [units, contexts].
        value: The latent there, float32 [units, contexts].
        label: Sense of each context, -1 where nobody knows, int16 [units, contexts].
    """

    number: NDArray[np.int32]
    effective: NDArray[np.float32]
    several: NDArray[np.float32]
    separation: NDArray[np.float32]
    token_entropy: NDArray[np.float32]
    density: NDArray[np.float32]
    documents: NDArray[np.int32]
    position: NDArray[np.int32]
    value: NDArray[np.float32]
    label: NDArray[np.int16]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which units have a number of senses, [units]."""
        return self.number > 0

    def share_polysemantic(self) -> float:
        """Share of units with more than one sense, among those with a number; NaN where there are none."""
        known = self.number[self.known]
        return float((known > 1).mean()) if len(known) else float("nan")

    def sense(self, unit: int, which: int) -> Sample:
        """The contexts of one sense of a unit, strongest first."""
        rows = np.flatnonzero((self.label[unit] == which) & (self.position[unit] >= 0))
        rows = rows[np.argsort(-self.value[unit][rows], kind="stable")]
        return Sample(self.position[unit][rows], self.value[unit][rows])

    def to_tensors(self) -> dict[str, NDArray[np.generic]]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[np.generic]]) -> SenseTable:
        """The reverse of ``to_tensors``."""
        return cls(**{field.name: np.asarray(tensors[field.name]) for field in fields(cls)})


def sense_table(
    activity: Activity,
    firings: Firings,
    samples: Sequence[Sample],
    senses: Sequence[Senses | None],
    contexts: int,
) -> SenseTable:
    """Gather what was found of each unit.

    Args:
        activity: The text.
        firings: Of these units.
        samples: Contexts of each.
        senses: Of each; None where nobody knows.
        contexts: Columns of the arrays of contexts.
    """
    units = len(samples)
    position = np.full((units, contexts), -1, np.int32)
    value = np.zeros((units, contexts), np.float32)
    label = np.full((units, contexts), -1, np.int16)
    effective, several, separation = (np.full(units, np.nan, np.float32) for _ in range(3))
    entropy = np.full(units, np.nan, np.float32)
    number, documents = np.zeros(units, np.int32), np.zeros(units, np.int32)
    for unit, (sample, found) in enumerate(zip(samples, senses, strict=True)):
        taken = len(sample)
        if not taken:
            continue
        position[unit, :taken], value[unit, :taken] = sample.position, sample.value
        documents[unit] = len(np.unique(activity.document[sample.position]))
        entropy[unit] = _entropy(activity.token[sample.position], sample.value)
        if found is not None:
            number[unit] = found.number
            effective[unit], several[unit] = found.effective, found.several
            separation[unit] = found.separation
            label[unit, :taken] = found.labels
    density = (firings.count / max(len(activity), 1)).astype(np.float32)
    return SenseTable(
        number, effective, several, separation, entropy, density, documents, position, value, label
    )


def _entropy(tokens: NDArray[np.integer], values: NDArray[np.floating]) -> float:
    _, place = np.unique(tokens, return_inverse=True)
    mass = np.bincount(place, weights=values.astype(np.float64))
    share = mass / mass.sum()
    return float(-(share * np.log(share)).sum())
