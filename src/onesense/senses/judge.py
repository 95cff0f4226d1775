"""How many senses does a set of contexts have? A judge that learned it from unions of features.

No number for it is known beforehand: how alike the contexts of one sense are depends on the model, the place in it
and the dictionary. What is known is what several senses look like: the contexts of several features, put together. So
the judge is fitted on unions of two to six features against single ones, in many sizes and proportions, and says how
much a set of contexts looks like each. Single features are taken as they are; those among them that have several senses
make the judge more cautious, not less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from onesense.errors import ConfigurationError
from onesense.senses.activity import Floats
from onesense.senses.sampling import Sample, united
from onesense.senses.set_statistics import set_statistics
from onesense.senses.small_matrices import in_threads
from onesense.senses.space import ContextVectors, SenseSpace, unit_rows

SMALLEST_SET = 8
MOST_SENSES = 6
_CONTEXTS_OF_A_SENSE = 6
_UNIONS = 1500
_SMALLEST_SHARE = 0.2
_WITHOUT_MAKERS = 0.5
_SETS_AT_ONCE = 512
_DRAWN_AT_ONCE = 64
_FEWEST_FEATURES = 20

Cosines = NDArray[np.float64]
DrawUnion = Callable[[int, Sequence[float], np.random.Generator], ContextVectors]


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Tells unions of several senses from a single one, and how many there are.

    Attributes:
        sizes: Numbers of contexts for which it was fitted, largest first.
        models: Gradient-boosted trees over the statistics of all views, for each size.
    """

    sizes: tuple[int, ...]
    models: dict[int, Any]

    def size_for(self, contexts: int) -> int | None:
        """The largest size that so many contexts fill; None where they are too few to judge."""
        return next((size for size in self.sizes if size <= contexts), None)

    def probabilities(self, sets: Sequence[Cosines]) -> NDArray[np.float64]:
        """How much each set looks like a union of 1 to 6 senses, [sets, 6]; NaN where it is too small.

        Args:
            sets: Cosines of each set's contexts, [views, contexts, contexts], contexts in random order. Of more
                contexts than the largest size the first ones count.
        """
        found = np.full((len(sets), MOST_SENSES), np.nan)
        wanted = [self.size_for(one.shape[-1]) for one in sets]
        for size in self.sizes:
            rows = [at for at, one in enumerate(wanted) if one == size]
            for start in range(0, len(rows), _SETS_AT_ONCE):
                part = rows[start : start + _SETS_AT_ONCE]
                numbers = statistics_of([sets[at][:, :size, :size] for at in part])
                answer = self.models[size].predict_proba(numbers)
                found[part] = 0
                found[part, : answer.shape[1]] = answer
        return found

    def several(self, sets: Sequence[Cosines]) -> NDArray[np.float64]:
        """How much each set looks like more than one sense, from 0 to 1; NaN where it is too small."""
        return 1 - self.probabilities(sets)[:, 0]


def statistics_of(sets: Sequence[Cosines]) -> NDArray[np.float64]:
    """The statistics of sets of one size, [sets, numbers]."""
    return set_statistics(np.stack(sets))


def fit_judge(draw: DrawUnion, *, sizes: Sequence[int], seed: int, unions: int = _UNIONS) -> Judge:
    """Fit a judge on unions of features against single ones.

    Args:
        draw: Gives a union, or a single feature; see ``unions_of``.
        sizes: Numbers of contexts.
        seed: Of the unions and of the contexts.
        unions: Unions of two for each size, and as many single features; of more than two a third of that each.
    """
    ordered = tuple(sorted(sizes, reverse=True))
    generator = np.random.default_rng(seed)
    models = {}
    for size in ordered:
        most = min(MOST_SENSES, max(2, size // _CONTEXTS_OF_A_SENSE))
        labels = np.repeat(np.arange(1, most + 1), [unions, unions, *[-(-unions // 3)] * (most - 2)])
        numbers = list(in_threads(_of_vectors, _drawn(draw, size, labels, generator)))
        # Several senses of any number weigh as much as one.
        weights = np.where(labels > 1, 1.0, (labels > 1).sum() / unions)
        model = HistGradientBoostingClassifier(
            max_depth=4,
            learning_rate=0.06,
            max_iter=150,
            l2_regularization=1.0,
            max_features=0.3,
            early_stopping=False,
            random_state=seed,
        )
        models[size] = model.fit(np.concatenate(numbers), labels, sample_weight=weights)
    return Judge(ordered, models)


def _drawn(
    draw: DrawUnion, size: int, labels: NDArray[np.int64], generator: np.random.Generator
) -> Iterator[list[ContextVectors]]:
    """A union for each number of features, some at once."""
    for part in np.split(labels, range(_DRAWN_AT_ONCE, len(labels), _DRAWN_AT_ONCE)):
        yield [draw(size, drawn_shares(int(one), generator), generator) for one in part]


def _of_vectors(sets: Sequence[ContextVectors]) -> NDArray[np.float64]:
    return statistics_of([one.cosines() for one in sets])


def drawn_shares(number: int, generator: np.random.Generator) -> tuple[float, ...]:
    """What share of a union's contexts each of its features has; the first of two has 0.2 to 0.5.

    Args:
        number: Of features.
        generator: Of the shares.
    """
    if number == 2:
        first = float(generator.uniform(_SMALLEST_SHARE, 0.5))
        return (first, 1 - first)
    weights = generator.uniform(1 / 3, 1, number)
    return tuple((weights / weights.sum()).tolist())


def unions_of(space: SenseSpace, samples: Sequence[Sample], directions: Floats) -> DrawUnion:
    """Draw unions of features, and single ones, as a unit with all these senses would have them.

    A unit with several senses writes one direction, which has a part in each of them. So what is taken out of the
    contexts of a union is the mean of its features' directions, and not each feature's own.

    Args:
        space: Where contexts lie.
        samples: Contexts of each feature, as many as the largest set will have.
        directions: What each writes, of norm 1, [features, d_model].

    Returns:
        A function of the number of contexts, the share of them that each feature has, and a generator.

    Raises:
        ConfigurationError: Fewer than 20 features.
    """
    if len(samples) < _FEWEST_FEATURES:
        raise ConfigurationError(
            f"{len(samples)} features have enough contexts; it takes {_FEWEST_FEATURES} to learn what a union looks "
            "like.",
            hint="Read more text: --max-tokens, --text.",
        )

    def draw(size: int, shares: Sequence[float], generator: np.random.Generator) -> ContextVectors:
        chosen = generator.choice(len(samples), len(shares), replace=False)
        counts = _counts(size, shares)
        parts = [
            samples[int(at)].take(generator.permutation(len(samples[int(at)]))[:count])
            for at, count in zip(chosen, counts, strict=True)
        ]
        union = united(*parts).take(generator.permutation(size))
        # A dictionary has a feature for each sense of a unit, as for those of a neuron, or it has none.
        hidden = len(shares) > 1 and generator.random() < _WITHOUT_MAKERS
        makers = directions[chosen] if hidden else None
        return space.vectors(union, union_direction(directions[chosen], counts / size), makers=makers)

    return draw


def _counts(size: int, shares: Sequence[float]) -> NDArray[np.int64]:
    """How many of ``size`` contexts each share is, two at least, [shares]."""
    counts = np.maximum(2, np.round(size * np.asarray(shares))).astype(np.int64)
    counts[counts.argmax()] += size - counts.sum()
    return counts


def union_direction(directions: Floats, shares: Sequence[float] | NDArray[np.floating]) -> Floats:
    """What a unit with several senses writes, of norm 1, [d_model].

    Args:
        directions: Of the senses, [senses, d_model].
        shares: Of the contexts, [senses].
    """
    written: Floats = unit_rows((np.asarray(shares, np.float32) @ directions)[None])[0]
    return written


def halved_sizes(contexts: int) -> tuple[int, ...]:
    """``contexts``, half of it, and so on down to the smallest set that can be judged."""
    sizes = [contexts]
    while sizes[-1] // 2 >= SMALLEST_SET:
        sizes.append(sizes[-1] // 2)
    return tuple(sizes)
