"""The space of contexts and the judge, both fitted on one dictionary, with some of its features held out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesense.errors import ConfigurationError
from onesense.senses.activity import Activity, Firings, Floats
from onesense.senses.judge import Judge, fit_judge, pairs_of
from onesense.senses.partition import partition_all
from onesense.senses.sampling import Sample, sample_all
from onesense.senses.space import SenseSpace, fit_space

# As where senses are measured: the judge learns from rare features, of which these are enough.
_JUDGE_FEATURES = 1500
_RARE = 0.02
_UNITS_AT_ONCE = 64


class Ruler(NamedTuple):
    """What senses are measured with.

    Attributes:
        space: Where contexts lie.
        judge: Whether a set of them is one sense.
        features: How many features the judge learned from.
    """

    space: SenseSpace
    judge: Judge
    features: int


def fit_ruler(
    activity: Activity,
    reference: str,
    directions: Floats,
    samples: Sequence[Sample],
    *,
    sizes: Sequence[int],
    seed: int,
    held_out: Collection[int] = (),
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

    Raises:
        ConfigurationError: One document only, or too few features with enough contexts.
    """
    if len(activity) and activity.document.min() == activity.document.max():
        raise ConfigurationError(
            "The text is one document: its contexts are alike whatever fires there.",
            hint="Give a text of many documents with --text.",
        )
    largest = max(sizes)
    hidden = set(held_out)
    none = Sample(np.empty(0, np.int32), np.empty(0, np.float32))
    seen = [
        none if at in hidden or len(one) < largest else Sample(one.position[:largest], one.value[:largest])
        for at, one in enumerate(samples)
    ]
    space = fit_space(activity, reference, directions, seen, seed=seed)
    rare = activity.firings[reference].count < _RARE * len(activity)
    full = np.flatnonzero(rare & np.array([len(one) == largest for one in seen]))
    full = np.sort(np.random.default_rng(seed).permutation(full)[:_JUDGE_FEATURES])
    draw = pairs_of(space, [seen[int(at)] for at in full], directions[full])
    return Ruler(space, fit_judge(draw, sizes=sizes, seed=seed), len(full))


def count_senses(
    firings: Firings, directions: Floats, ruler: Ruler, contexts: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Number and effective number of senses of each unit, [units]; 0 and NaN where it has too few contexts.

    Args:
        firings: Of the units.
        directions: What each writes, of norm 1, [units, d_model].
        ruler: What senses are measured with.
        contexts: Taken of each unit at most.
        seed: Of the draw of contexts.
    """
    samples = sample_all(firings, contexts, seed=seed)
    number, effective = np.zeros(len(samples), np.int64), np.full(len(samples), np.nan)
    for start in range(0, len(samples), _UNITS_AT_ONCE):
        units = range(start, min(start + _UNITS_AT_ONCE, len(samples)))
        group = [unit for unit in units if ruler.judge.size_for(len(samples[unit]))]
        cosines = [ruler.space.vectors(samples[unit], directions[unit]).cosines() for unit in group]
        values = [samples[unit].value for unit in group]
        for unit, senses in zip(group, partition_all(cosines, values, ruler.judge), strict=True):
            if senses is not None:
                number[unit], effective[unit] = senses.number, senses.effective
    return number, effective
