"""Groups differ in senses and not in bias."""

from __future__ import annotations

import numpy as np

from onesense.debias.results import Interval
from onesense.study.groups import Difference, matched_pair
from onesense.study.relation import Finding
from study.tables import unit_table


def test_groups_are_matched_in_bias_and_differ_in_senses() -> None:
    units = unit_table(units=500, seed=4)
    pair = matched_pair(units, 25)
    assert pair is not None
    assert pair.size == len(set(pair.single)) == len(set(pair.several)) == 25
    assert (units.number[list(pair.single)] == 1).all()
    assert (units.number[list(pair.several)] > 1).all()
    # units with several senses are the fewer: theirs are the largest
    fewer = np.flatnonzero(units.number > 1)
    assert set(pair.several) == set(fewer[np.argsort(-units.bias[fewer])[:25]].tolist())
    apart = np.log(units.bias[list(pair.single)]) - np.log(units.bias[list(pair.several)])
    assert np.abs(apart).mean() < 0.1


def test_each_unit_takes_the_nearest_that_is_free() -> None:
    units = unit_table(
        number=[1, 1, 1, 1, 2, 2], bias=[1.0, 0.95, 0.5, 8.0, 1.01, 0.99], kl=np.ones(6), several=np.ones(6)
    )
    pair = matched_pair(units, 2)
    assert pair is not None
    assert (pair.several, pair.single) == ((4, 5), (0, 1))


def test_units_that_do_nothing_or_are_unknown_are_in_no_group() -> None:
    units = unit_table(number=[1, 1, 1, 2, 2, 0], bias=[1, 0, 1, 1, 1, 1], kl=[1, 1, 0, 1, 1, 1])
    pair = matched_pair(units, 1)
    assert pair is not None
    assert pair.single == (0,)
    assert matched_pair(units, 2) is None


def test_a_group_that_removes_more_is_named_whichever_it_is() -> None:
    def difference(value: float, low: float, high: float, p: float) -> Difference:
        nothing = Interval(0.1, 0.0, 0.2)
        return Difference("b", "m", "t", nothing, nothing, Interval(value, low, high), 0.001, p)

    assert difference(0.1, 0.05, 0.2, 0.01).finding is Finding.OPPOSITE
    assert difference(-0.1, -0.2, -0.05, 0.01).finding is Finding.RELATED
    assert difference(-0.1, -0.2, -0.05, 0.2).finding is Finding.NOT_DETECTABLE
    assert difference(0.1, -0.05, 0.2, 0.01).finding is Finding.NOT_DETECTABLE
