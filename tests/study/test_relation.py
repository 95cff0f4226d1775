"""Relations that are planted are found, those that are not are not, and a confounder is taken out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from onesense.study.bins import binned
from onesense.study.relation import (
    BIAS,
    BIAS_PER_KL,
    EFFECTIVE,
    FACT_PER_BIAS,
    SEVERAL,
    Finding,
    Relation,
    corrected,
    relations,
)
from onesense.study.units import UnitTable
from study.tables import unit_table

Floats = np.ndarray


def found(units: UnitTable, draws: int = 80) -> dict[tuple[str, str], Relation]:
    return {(one.outcome, one.measure): one for one in corrected(relations(units, draws=draws, seed=0))}


def test_effects_that_grow_with_senses_are_found() -> None:
    several = np.random.default_rng(1).uniform(size=200)
    one = found(unit_table(several=several, bias=0.01 + several**3))[BIAS, SEVERAL]
    assert one.rho.value == pytest.approx(1)
    assert one.rho.low > 0.95
    assert one.partial.value > 0.98
    assert one.partial.low > 0.95
    assert one.finding is Finding.RELATED


def test_effects_that_fall_are_opposite() -> None:
    several = np.random.default_rng(1).uniform(size=200)
    one = found(unit_table(several=several, bias=2 - several))[BIAS, SEVERAL]
    assert one.rho.high < -0.95
    assert one.finding is Finding.OPPOSITE


def test_independent_effects_cover_0() -> None:
    every = found(unit_table(units=300, seed=3))
    for key in ((BIAS, SEVERAL), (BIAS_PER_KL, EFFECTIVE)):
        assert every[key].rho.low < 0 < every[key].rho.high
        assert every[key].finding is Finding.NOT_DETECTABLE


def test_intervals_of_independent_effects_cover_0_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(24):
        one = found(unit_table(units=60, seed=seed))[BIAS, SEVERAL]
        covered += one.rho.low < 0 < one.rho.high
    assert covered >= 20


def test_the_partial_correlation_takes_a_planted_confounder_out() -> None:
    generator = np.random.default_rng(6)
    density = 10 ** generator.uniform(-4, -1, 500)
    size = np.log10(density)
    several = 0.5 + 0.1 * size + 0.05 * generator.normal(size=500)
    bias = np.exp(size + 0.5 * generator.normal(size=500))
    one = found(unit_table(several=several, bias=bias, density=density))[BIAS, SEVERAL]
    assert one.rho.low > 0.5
    assert one.p_holm is not None
    assert one.p_holm < 1e-6
    assert one.partial.low < 0 < one.partial.high
    assert one.finding is Finding.NOT_DETECTABLE


def test_both_correlations_are_those_of_the_textbook() -> None:
    units = unit_table(units=200, seed=7)
    one = found(units, draws=20)[BIAS, SEVERAL]
    assert one.rho.value == pytest.approx(spearmanr(units.bias, units.several).statistic)
    assert one.p == pytest.approx(spearmanr(units.bias, units.several).pvalue)
    ranks = [rankdata(x) for x in (units.bias, units.several, units.density, units.norm)]
    design = np.stack([np.ones(200), *ranks[2:]], axis=1)
    left = [y - design @ np.linalg.lstsq(design, y, rcond=None)[0] for y in ranks[:2]]
    assert one.partial.value == pytest.approx(np.corrcoef(left)[0, 1])


def test_units_without_a_number_are_left_out_and_counted() -> None:
    units = unit_table(units=100, seed=2)
    units.number[:7] = 0
    units.several[:7] = np.nan
    units.effective[:7] = np.nan
    units.kl[10:13] = 0
    units.bias[20:22] = 0
    every = found(units, draws=20)
    assert (every[BIAS, SEVERAL].units, every[BIAS, SEVERAL].left_out) == (93, 7)
    assert every[BIAS_PER_KL, SEVERAL].left_out == 10
    assert every[FACT_PER_BIAS, EFFECTIVE].left_out == 9


def test_too_few_units_say_nothing() -> None:
    one = found(unit_table(units=6))[BIAS, SEVERAL]
    assert np.isnan(one.rho.value)
    assert one.p == 1
    assert one.finding is Finding.UNKNOWN
    assert binned(unit_table(units=6), draws=10, seed=0) == []


def test_a_measure_that_does_not_vary_has_no_correlation() -> None:
    one = found(unit_table(units=60, effective=np.ones(60)), draws=20)[BIAS, EFFECTIVE]
    assert np.isnan(one.rho.value)
    assert np.isnan(one.partial.value)
    assert one.finding is Finding.UNKNOWN


def test_a_control_that_does_not_vary_explains_nothing() -> None:
    several = np.random.default_rng(1).uniform(size=100)
    units = unit_table(several=several, bias=1 + several, density=np.full(100, 0.1), norm=np.ones(100))
    one = found(units, draws=20)[BIAS, SEVERAL]
    assert one.partial.value == pytest.approx(1)


def test_correction_spans_raw_and_partial_tests() -> None:
    every = corrected(relations(unit_table(units=100, seed=9), draws=20, seed=0))
    smallest = min(p for one in every for p in (one.p, one.partial_p))
    assert min(one.p_holm for one in every if one.p_holm is not None) >= smallest
    first = min((one.p, one.p_holm) for one in every if one.p_holm is not None)
    assert first[1] > first[0]


def test_bins_rise_with_a_planted_relation() -> None:
    several = np.random.default_rng(1).uniform(size=200)
    bins = binned(unit_table(several=several, bias=1 + several, kl=np.ones(200)), draws=100, seed=0)
    assert sum(one.units for one in bins) == 200
    ranks = [one.rank.value for one in bins]
    assert ranks == sorted(ranks)
    assert ranks[0] < 10 < 90 < ranks[-1]
    assert all(one.rank.low < one.rank.value < one.rank.high for one in bins)
    assert all(a.high <= b.low for a, b in pairwise(bins))
