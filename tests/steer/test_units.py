"""Units: what a value comes to in the dictionary's own activation."""

from __future__ import annotations

import pytest

from onesense.errors import ConfigurationError, NumericalError
from onesense.steer.edit import Edit, Operation, Unit
from onesense.steer.units import raw_amounts


def _edit(unit: Unit, value: float = 3.0, operation: Operation = Operation.CLAMP) -> Edit:
    return Edit(feature=5, operation=operation, value=value, unit=unit)


def test_a_raw_value_stays_what_it_is() -> None:
    assert raw_amounts([_edit(Unit.RAW)], [2.0]).tolist() == [3.0]


def test_max_is_times_the_largest_activation() -> None:
    assert raw_amounts([_edit(Unit.MAX)], [2.0], max_activation={5: 7.0}).tolist() == [21.0]


def test_norm_makes_the_added_vector_a_share_of_the_mean_norm() -> None:
    amount = raw_amounts([_edit(Unit.NORM, 0.5, Operation.DIRECTION_ADD)], [2.0], mean_norm=80.0)
    assert amount.item() * 2.0 == pytest.approx(0.5 * 80.0)


def test_a_factor_has_no_unit() -> None:
    edits = [Edit(feature=5, operation=Operation.ABLATE), Edit(feature=6, operation=Operation.PROJECT_OUT)]
    assert raw_amounts(edits, [2.0, 2.0]).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("unit", [Unit.MAX, Unit.NORM])
def test_a_number_that_is_not_known_is_asked_for(unit: Unit) -> None:
    with pytest.raises(ConfigurationError, match=unit.value) as caught:
        raw_amounts([_edit(unit)], [2.0])
    assert caught.value.hint


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="never fired"):
        raw_amounts([_edit(Unit.MAX)], [2.0], max_activation={5: 0.0})
    with pytest.raises(NumericalError, match="zero"):
        raw_amounts([_edit(Unit.NORM)], [0.0], mean_norm=1.0)


def test_an_amount_beyond_float32_is_refused() -> None:
    with pytest.raises(NumericalError, match="finite"):
        raw_amounts([_edit(Unit.RAW, 1e300)], [1.0])
