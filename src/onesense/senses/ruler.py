"""The space of contexts and the judge, both fitted on one dictionary."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from onesense.senses.activity import Activity, Floats
from onesense.senses.judge import Judge, fit_judge, unions_of
from onesense.senses.partition import THRESHOLD, Senses, partition_all
from onesense.senses.sampling import Sample
from onesense.senses.small_matrices import in_threads
from onesense.senses.space import SenseSpace, fit_space

RARE = 0.02
"""A feature that fires at more of the positions is often one of form, and a poor example of one sense."""

_UNITS_AT_ONCE = 64


class Ruler(NamedTuple):
    """What senses are measured with.

    Attributes:
        space: Where contexts lie.
        judge: How many senses a set of them has.
        features: How many features the judge learned from.
    """

    space: SenseSpace
    judge: Judge
    features: int

    def senses(
        self, samples: Sequence[Sample], directions: Floats, *, threshold: float = THRESHOLD
    ) -> list[Senses | None]:
        """The senses of units; None where the contexts are too few, or of one document.

        Args:
            samples: Contexts of each unit.
            directions: What each writes, of norm 1, [units, d_model].
            threshold: See ``partition_all``.
        """
        senses: list[Senses | None] = [None] * len(samples)
        usable = [at for at, one in enumerate(samples) if self._usable(one)]

        def parted(units: Sequence[int]) -> list[Senses | None]:
            return partition_all(
                [self.space.vectors(samples[at], directions[at]).cosines() for at in units],
                [samples[at].value for at in units],
                self.judge,
                threshold=threshold,
            )

        parts = [usable[start : start + _UNITS_AT_ONCE] for start in range(0, len(usable), _UNITS_AT_ONCE)]
        for units, found in zip(parts, in_threads(parted, parts), strict=True):
            for at, one in zip(units, found, strict=True):
                senses[at] = one
        return senses

    def _usable(self, sample: Sample) -> bool:
        if self.judge.size_for(len(sample)) is None:
            return False
        documents = self.space.activity.document[sample.position]
        return bool(documents.min() < documents.max())


def fit_ruler(
    activity: Activity,
    reference: str,
    directions: Floats,
    samples: Sequence[Sample],
    *,
    sizes: Sequence[int],
    seed: int,
    held_out: Collection[int] = (),
    most_density: float = RARE,
) -> Ruler:
    """Fit space and judge on the features of a dictionary that are not held out.

    Args:
        activity: The text.
        reference: Name of the dictionary's unit set.
        directions: What each feature writes, of norm 1, [features, d_model].
        samples: Contexts of each feature.
        sizes: Numbers of contexts that the judge must know; features with fewer than the largest teach nothing.
        seed: Of all draws.
        held_out: Features that neither may see.
        most_density: The judge learns from features that fire at a smaller share of the positions.

    Raises:
        ConfigurationError: Too few features with enough contexts.
    """
    largest = max(sizes)
    hidden = set(held_out)
    none = Sample(np.empty(0, np.int32), np.empty(0, np.float32))
    seen = [
        none if at in hidden or len(one) < largest else Sample(one.position[:largest], one.value[:largest])
        for at, one in enumerate(samples)
    ]
    space = fit_space(activity, reference, directions, seen, seed=seed)
    rare = activity.firings[reference].count < most_density * len(activity)
    full = np.flatnonzero(rare & np.array([len(one) == largest for one in seen]))
    draw = unions_of(space, [seen[int(at)] for at in full], directions[full])
    return Ruler(space, fit_judge(draw, sizes=sizes, seed=seed), len(full))
