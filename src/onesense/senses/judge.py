"""Is this one sense or several? A judge that learned it from unions of two features.

No number for it is known beforehand: how alike the contexts of one sense are depends on the model, the place in it
and the dictionary. What is known is what two senses look like: the contexts of two features, put together. So the
judge is fitted on unions of two features against single ones, in many sizes and proportions, and says how much a
set of contexts looks like a union. Single features are taken as they are; those among them that have several senses
make the judge more cautious, not less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from onesense.errors import ConfigurationError
from onesense.senses.set_statistics import set_statistics
from onesense.senses.space import ContextVectors, joined

SMALLEST_SET = 8
_PAIRS = 1200
_SMALLEST_SHARE = 0.2
_STRENGTH = 0.3
_SETS_AT_ONCE = 512

Cosines = NDArray[np.float64]


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


def fit_judge(
    features: Sequence[ContextVectors], *, sizes: Sequence[int], seed: int, pairs: int = _PAIRS
) -> Judge:
    """Fit a judge on unions of two features against single ones.

    Args:
        features: The contexts of each feature, as many for each as the largest size.
        sizes: Numbers of contexts.
        seed: Of the pairs and of the contexts.
        pairs: Unions for each size, and as many single features.

    Raises:
        ConfigurationError: Fewer than 20 features.
    """
    if len(features) < 20:
        raise ConfigurationError(
            f"{len(features)} features have enough contexts; it takes 20 to learn what a union looks like.",
            hint="Read more text: --max-tokens, --text.",
        )
    ordered = tuple(sorted(sizes, reverse=True))
    generator = np.random.default_rng(seed)
    models = {}
    for size in ordered:
        numbers, labels = [], []
        for start in range(0, pairs, _SETS_AT_ONCE // 2):
            sets: list[Cosines] = []
            for _ in range(min(_SETS_AT_ONCE // 2, pairs - start)):
                share = generator.uniform(_SMALLEST_SHARE, 0.5)
                sets += [one.cosines() for one in union_and_single(features, size, share, generator)]
                labels += [1, 0]
            numbers.append(statistics_of(sets))
        model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=3000))
        models[size] = model.fit(np.concatenate(numbers), labels)
    return Judge(ordered, models)


def union_and_single(
    features: Sequence[ContextVectors], size: int, share: float, generator: np.random.Generator
) -> tuple[ContextVectors, ContextVectors]:
    """The contexts of two features as one set, the first with a share of them, and those of the first alone."""
    one, other = (features[int(at)] for at in generator.choice(len(features), 2, replace=False))
    mine = max(2, round(size * share))
    order, rest = generator.permutation(len(one)), generator.permutation(len(other))
    union = joined([one.take(order[:mine]), other.take(rest[: size - mine])])
    return union.take(generator.permutation(size)), one.take(order[:size])
