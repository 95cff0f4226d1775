"""Is this one sense or several? A judge that learned it from unions of two features.

No number for it is known beforehand: how alike the contexts of one sense are depends on the model, the place in it
and the dictionary. What is known is what two senses look like: the contexts of two features, put together. So the
judge is fitted on unions of two features against single ones, in many sizes and proportions, and says how much a
set of contexts looks like a union. Single features are taken as they are; those among them that have several senses
make the judge more cautious, not less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from onesense.errors import ConfigurationError
from onesense.senses.activity import Floats
from onesense.senses.sampling import Sample, united
from onesense.senses.set_statistics import set_statistics
from onesense.senses.space import ContextVectors, SenseSpace, unit_rows

SMALLEST_SET = 8
_PAIRS = 1200
_SMALLEST_SHARE = 0.2
_STRENGTH = 0.3
_SETS_AT_ONCE = 512
_FEWEST_FEATURES = 20

Cosines = NDArray[np.float64]
DrawPair = Callable[[int, float, np.random.Generator], tuple[ContextVectors, ContextVectors]]


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Tells a union of two senses from a single one.

    Attributes:
        sizes: Numbers of contexts for which it was fitted, largest first.
        models: A logistic regression over the statistics of all views, for each size.
    """

    sizes: tuple[int, ...]
    models: dict[int, Any]

    def size_for(self, contexts: int) -> int | None:
        """The largest size that so many contexts fill; None where they are too few to judge."""
        return next((size for size in self.sizes if size <= contexts), None)

    def several(self, sets: Sequence[Cosines]) -> NDArray[np.float64]:
        """How much each set looks like a union of two senses, from 0 to 1; NaN where it is too small.

        Args:
            sets: Cosines of each set's contexts, [views, contexts, contexts], contexts in random order. Of more
                contexts than the largest size the first ones count.
        """
        found = np.full(len(sets), np.nan)
        wanted = [self.size_for(one.shape[-1]) for one in sets]
        for size in self.sizes:
            rows = [at for at, one in enumerate(wanted) if one == size]
            for start in range(0, len(rows), _SETS_AT_ONCE):
                part = rows[start : start + _SETS_AT_ONCE]
                numbers = statistics_of([sets[at][:, :size, :size] for at in part])
                found[part] = self.models[size].predict_proba(numbers)[:, 1]
        return found


def statistics_of(sets: Sequence[Cosines]) -> NDArray[np.float64]:
    """The statistics of sets of one size, [sets, numbers]."""
    return set_statistics(np.stack(sets))


def fit_judge(draw: DrawPair, *, sizes: Sequence[int], seed: int, pairs: int = _PAIRS) -> Judge:
    """Fit a judge on unions of two features against single ones.

    Args:
        draw: Gives a union and a single feature; see ``pairs_of``.
        sizes: Numbers of contexts.
        seed: Of the pairs and of the contexts.
        pairs: Unions for each size, and as many single features.
    """
    ordered = tuple(sorted(sizes, reverse=True))
    generator = np.random.default_rng(seed)
    models = {}
    for size in ordered:
        numbers, labels = [], []
        for start in range(0, pairs, _SETS_AT_ONCE // 2):
            sets: list[Cosines] = []
            for _ in range(min(_SETS_AT_ONCE // 2, pairs - start)):
                share = generator.uniform(_SMALLEST_SHARE, 0.5)
                sets += [one.cosines() for one in draw(size, share, generator)]
                labels += [1, 0]
            numbers.append(statistics_of(sets))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=3000))
        models[size] = model.fit(np.concatenate(numbers), labels)
    return Judge(ordered, models)


def pairs_of(space: SenseSpace, samples: Sequence[Sample], directions: Floats) -> DrawPair:
    """Draw unions of two features, and single ones, as a unit with both senses and one with one would have them.

    A unit with two senses writes one direction, which has a part in each of them. So what is taken out of the
    contexts of a union is the mean of both features' directions, and not each feature's own.

    Args:
        space: Where contexts lie.
        samples: Contexts of each feature, as many as the largest set will have.
        directions: What each writes, of norm 1, [features, d_model].

    Returns:
        A function of the number of contexts, the share of them that comes from the first feature, and a generator.

    Raises:
        ConfigurationError: Fewer than 20 features.
    """
    if len(samples) < _FEWEST_FEATURES:
        raise ConfigurationError(
            f"{len(samples)} features have enough contexts; it takes {_FEWEST_FEATURES} to learn what a union looks "
            "like.",
            hint="Read more text: --max-tokens, --text.",
        )

    def draw(
        size: int, share: float, generator: np.random.Generator
    ) -> tuple[ContextVectors, ContextVectors]:
        first, second = (int(at) for at in generator.choice(len(samples), 2, replace=False))
        mine = max(2, round(size * share))
        one = samples[first].take(generator.permutation(len(samples[first]))[:size])
        other = samples[second].take(generator.permutation(len(samples[second]))[: size - mine])
        union = united(one.take(np.arange(mine)), other).take(generator.permutation(size))
        mixed = union_direction(directions[first], directions[second], mine / size)
        makers = directions[[first, second]]
        return space.vectors(union, mixed, makers=makers), space.vectors(one, directions[first])

    return draw


def union_direction(one: Floats, other: Floats, share: float) -> Floats:
    """What a unit with two senses writes, of norm 1, [d_model].

    Args:
        one: Direction of the first sense.
        other: Of the second.
        share: Of the contexts that belongs to the first.
    """
    written: Floats = unit_rows((share * one + (1 - share) * other)[None])[0]
    return written


def halved_sizes(contexts: int) -> tuple[int, ...]:
    """``contexts``, half of it, and so on down to the smallest set that can be judged."""
    sizes = [contexts]
    while sizes[-1] // 2 >= SMALLEST_SET:
        sizes.append(sizes[-1] // 2)
    return tuple(sizes)
