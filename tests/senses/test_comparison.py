"""The difference of two shares: against published figures, and at the edges."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from onesense.senses.comparison import share_difference
from onesense.senses.sense_table import SenseTable


def _table(several: int, single: int, unknown: int = 0) -> SenseTable:
    number = np.array([2] * several + [1] * single + [0] * unknown, np.int32)
    units = len(number)
    nothing, contexts = np.full(units, np.nan, np.float32), np.zeros((units, 1), np.float32)
    documents = np.zeros(units, np.int32)
    return SenseTable(
        number,
        nothing,
        nothing,
        nothing,
        nothing,
        nothing,
        documents,
        contexts.astype(np.int32),
        contexts,
        contexts.astype(np.int8),
    )


def test_the_interval_is_newcombe_s() -> None:
    # Newcombe (1998), Statistics in Medicine 17, 873-890, table II, example (a), method 10.
    found = share_difference(_table(56, 14), _table(48, 32))
    assert found.value == pytest.approx(0.2)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)


def test_units_without_a_number_do_not_count() -> None:
    assert share_difference(_table(56, 14, 30), _table(48, 32, 7)) == share_difference(
        _table(56, 14), _table(48, 32)
    )


def test_the_other_way_round_it_is_the_other_way_round() -> None:
    one, other = (
        share_difference(_table(3, 40), _table(9, 20)),
        share_difference(_table(9, 20), _table(3, 40)),
    )
    assert one.value == pytest.approx(-other.value)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_a_set_without_numbers_has_no_difference() -> None:
    empty = replace(_table(0, 0, 5))
    assert all(math.isnan(value) for value in share_difference(empty, _table(1, 1)))
