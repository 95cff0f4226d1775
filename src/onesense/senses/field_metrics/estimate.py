"""A number with its interval, from draws of whole documents with replacement."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from onesense.errors import ConfigurationError

Floats = NDArray[np.float64]

_TAIL = 0.025
_FEW_DOCUMENTS = 8
_MOST_UNDEFINED = 0.1  # of the draws; with more, those that are left are no sample of what could have been
_CHUNK = 200_000  # counts held at once, whatever the number of documents


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % bootstrap interval.

    Attributes:
        value: The measure; NaN where it is undefined.
        low: Lower end; NaN where nothing can be told.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def document_sums(values: Floats, documents: Sequence[Hashable]) -> Floats:
    """Sums of the rows of each document.

    Args:
        values: [rows, columns].
        documents: The document of each row.

    Returns:
        [documents, columns].
    """
    numbers: dict[Hashable, int] = {}
    codes = [numbers.setdefault(document, len(numbers)) for document in documents]
    sums = np.zeros((len(numbers), values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def estimates(
    sums: Floats,
    measures: Callable[[Floats], Floats],
    *,
    draws: int = 2000,
    seed: int = 0,
    unit: str = "document",
    within: tuple[float, float] = (-math.inf, math.inf),
) -> list[Estimate]:
    """Measures that follow from sums over documents, with intervals from one set of draws.

    Percentiles are expanded for few documents, and below eight replaced by Student's quantile times the
    standard error, after Hesterberg (2015), *What Teachers Should Know About the Bootstrap*.

    Args:
        sums: What is summed, document by document, [documents, columns].
        measures: From sums [n, columns] to measures [n, measures]; NaN where one is undefined.
        draws: Bootstrap draws.
        seed: Of the draws.
        unit: What is drawn, for messages.
        within: What the measures cannot leave; no end of an interval does.

    Returns:
        One estimate for each measure.

    Raises:
        ConfigurationError: Fewer than two of them, no draw, or a negative seed.
    """
    n = len(sums)
    check_draws(draws, seed)
    if n < 2:
        raise ConfigurationError(
            f"{n} {unit} cannot tell how much a measure varies from one to another.",
            hint=f"Give at least two {unit}s.",
        )
    values = measures(sums.sum(axis=0, keepdims=True))[0]
    drawn = np.concatenate([measures(counts @ sums) for counts in _counts(n, draws, seed)])
    found = [_estimate(float(value), column, n) for value, column in zip(values, drawn.T, strict=True)]
    return [
        Estimate(one.value, *(float(end) for end in np.clip([one.low, one.high], *within))) for one in found
    ]


def check_draws(draws: int, seed: int) -> None:
    """Refuse settings of a bootstrap that cannot be used.

    Raises:
        ConfigurationError: No draw, or a negative seed.
    """
    if draws < 1:
        raise ConfigurationError(f"The bootstrap needs at least one draw, not {draws}.")
    if seed < 0:
        raise ConfigurationError(f"A seed is 0 or more, not {seed}.")


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """A quotient that is NaN, without a warning, where it is undefined."""
    found: Floats = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    np.divide(numerator, denominator, out=found, where=denominator != 0)
    return found


def _counts(documents: int, draws: int, seed: int) -> Iterator[Floats]:
    """How often each draw takes each document, in chunks of [rows, documents]."""
    generator = np.random.default_rng([seed, documents])
    rows = max(1, _CHUNK // documents)
    chances = np.full(documents, 1 / documents)
    for start in range(0, draws, rows):
        yield generator.multinomial(documents, chances, size=min(rows, draws - start)).astype(np.float64)


def _estimate(value: float, drawn: Floats, n: int) -> Estimate:
    defined = drawn[np.isfinite(drawn)]
    if not math.isfinite(value) or len(drawn) - len(defined) > _MOST_UNDEFINED * len(drawn):
        return Estimate(value, math.nan, math.nan)
    student = float(stdtrit(n - 1, _TAIL))
    if n < _FEW_DOCUMENTS:
        reach = student * float(np.std(defined)) * math.sqrt(n / (n - 1))
        return Estimate(value, value + reach, value - reach)
    tail = float(ndtr(student * math.sqrt(n / (n - 1))))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))
