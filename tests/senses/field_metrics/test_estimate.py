"""The document bootstrap: coverage, equal rows, few documents, undefined measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from onesense.errors import ConfigurationError
from onesense.senses.field_metrics.estimate import Floats, document_sums, estimates, ratio


def mean(sums: Floats) -> Floats:
    return ratio(sums[:, :1], sums[:, 1:])


def table(values: Floats) -> Floats:
    return np.column_stack([values, np.ones_like(values)])


def test_the_interval_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    (found,) = estimates(table(values), mean, draws=8000)
    half = stats.t.ppf(0.975, 399) * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean())
    assert [found.low, found.high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.02)


@pytest.mark.parametrize("n", [4, 12])
def test_few_documents_are_covered_about_as_often_as_promised(n: int) -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        (found,) = estimates(table(generator.normal(size=n)), mean, draws=400)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / 300 <= 0.99


def test_rows_of_one_document_are_drawn_together() -> None:
    values = np.random.default_rng(2).normal(size=60)
    once = estimates(table(values), mean)
    names = [f"text {number}" for number in range(60)]
    repeated = document_sums(np.repeat(table(values), 5, axis=0), [name for name in names for _ in range(5)])
    (again,) = estimates(repeated, mean)
    assert [again.low, again.high] == pytest.approx([once[0].low, once[0].high])


def test_a_measure_that_is_undefined_in_many_draws_has_no_interval() -> None:
    values = np.zeros((10, 2))
    values[0] = 1
    (found,) = estimates(values, mean)
    assert found.value == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_no_end_of_an_interval_leaves_what_is_possible() -> None:
    values = np.array([0.0, 1, 1])
    (free,) = estimates(table(values), mean)
    (bound,) = estimates(table(values), mean, within=(0, 1))
    assert free.low < 0 < 1 < free.high
    assert (bound.value, bound.low, bound.high) == (free.value, 0, 1)


@pytest.mark.parametrize(("documents", "draws", "seed"), [(1, 10, 0), (5, 0, 0), (5, 10, -1)])
def test_what_cannot_be_drawn_is_refused(documents: int, draws: int, seed: int) -> None:
    with pytest.raises(ConfigurationError):
        estimates(np.ones((documents, 2)), mean, draws=draws, seed=seed)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_sums_of_documents_are_those_of_a_loop(documents: list[int]) -> None:
    values = np.arange(2.0 * len(documents)).reshape(-1, 2)
    expected: dict[int, Floats] = {}
    for document, row in zip(documents, values, strict=True):
        expected[document] = expected.get(document, np.zeros(2)) + row
    np.testing.assert_allclose(document_sums(values, documents), np.array(list(expected.values())))
