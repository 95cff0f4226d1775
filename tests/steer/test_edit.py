"""The edit language: what it keeps, what it refuses, what goes through JSON unchanged."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.errors import ConfigurationError
from onesense.steer.edit import Edit, Operation, Unit
from onesense.steer.where import EVERYWHERE, Where, Window

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TOKENS = st.lists(st.one_of(st.integers(0, 10**6), st.text(max_size=8)), max_size=3).map(tuple)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int | None]:
    start = draw(st.integers(-50, 50))
    if start < 0:
        return start, draw(st.one_of(st.none(), st.integers(start + 1, -1) if start < -1 else st.none()))
    return start, draw(st.one_of(st.none(), st.integers(start + 1, 100)))


@st.composite
def wheres(draw: st.DrawFn) -> Where:
    window = draw(st.sampled_from(Window))
    counts = st.one_of(st.none(), st.integers(1, 1000))
    return Where(
        window=window,
        first=draw(counts),
        last=None if window is Window.GENERATION else draw(counts),
        positions=tuple(draw(st.lists(ranges(), max_size=3))),
        include=draw(TOKENS),
        exclude=draw(TOKENS),
        special=draw(st.booleans()),
    )


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    operation = draw(st.sampled_from(Operation))
    optional = operation in (Operation.ABLATE, Operation.PROJECT_OUT)
    value = None if optional and draw(st.booleans()) else draw(NUMBERS)
    return Edit(
        feature=draw(st.integers(0, 10**6)),
        operation=operation,
        value=0.0 if operation is Operation.ABLATE and value is not None else value,
        unit=Unit.RAW if operation.is_share else draw(st.sampled_from(Unit)),
        where=draw(wheres()),
    )


@given(edit=edits())
def test_an_edit_goes_through_json_unchanged(edit: Edit) -> None:
    assert Edit.model_validate_json(edit.model_dump_json()) == edit
    assert Edit.model_validate(edit.model_dump(mode="json")) == edit


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(ConfigurationError, match="value"):
        Edit(feature=0, operation=Operation.ADD, value=value)
    with pytest.raises(ConfigurationError, match="value"):
        Edit.plain(0, value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feature": -1, "value": 1.0}, "feature"),
        ({"feature": 1.5, "value": 1.0}, "feature"),
        ({"feature": "3", "value": 1.0}, "feature"),
        ({"feature": 0}, "value"),
        ({"feature": 0, "operation": "boost", "value": 1.0}, "operation"),
        ({"feature": 0, "operation": "ablate", "value": 2.0}, "scale"),
        ({"feature": 0, "operation": "scale", "value": 2.0, "unit": "norm"}, "bare factor"),
        ({"feature": 0, "value": 1.0, "strength": 2}, "strength"),
        ({"feature": 0, "value": 1.0, "where": {"first": 0}}, "first"),
        ({"feature": 0, "value": 1.0, "where": {"window": "generation", "last": 1}}, "last"),
        ({"feature": 0, "value": 1.0, "where": {"positions": [[5, 3]]}}, "empty"),
        ({"feature": 0, "value": 1.0, "where": {"positions": [[-1, -3]]}}, "empty"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_in_words(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        Edit.model_validate(fields)
    assert caught.value.hint
    assert "validation error" not in str(caught.value)


def test_plain_steering_is_everywhere() -> None:
    edit = Edit.plain(11952, 300)
    assert (edit.operation, edit.unit, edit.where) == (Operation.DIRECTION_ADD, Unit.RAW, EVERYWHERE)
    assert not Edit(feature=0, value=1.0).where.special
