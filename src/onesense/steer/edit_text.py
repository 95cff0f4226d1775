"""The one-line spelling of an edit, for the command line."""

from __future__ import annotations

from typing import TypeVar

from onesense.errors import ConfigurationError
from onesense.steer.edit import Edit, Operation, Unit
from onesense.steer.where import Where, Window

Choice = TypeVar("Choice", Operation, Unit, Window)
_FORM = "FEATURE:OPERATION[:VALUE[:UNIT[:WINDOW]]]"


def parse_edit(text: str) -> Edit:
    """Read an edit such as ``12:ablate``, ``7:clamp:2:max`` or ``7:direction_add:30:raw:generation``.

    Args:
        text: ``FEATURE:OPERATION[:VALUE[:UNIT[:WINDOW]]]``.

    Raises:
        ConfigurationError: It is spelled otherwise, or a part has a value that it cannot have.
    """
    parts = [part.strip() for part in text.split(":")]
    if not 2 <= len(parts) <= 5 or not parts[0].isdecimal():
        raise ConfigurationError(
            f"`{text}` is not an edit.", hint=f"It is spelled {_FORM}, such as 12:ablate."
        )
    operation = _one_of(Operation, parts[1].replace("-", "_"), text)
    unit = _one_of(Unit, parts[3], text) if len(parts) > 3 and parts[3] else Unit.RAW
    window = _one_of(Window, parts[4], text) if len(parts) > 4 and parts[4] else Window.ALL
    return Edit(
        feature=int(parts[0]),
        operation=operation,
        value=_number(parts[2], text) if len(parts) > 2 and parts[2] else None,
        unit=unit,
        where=Where(window=window),
    )


def _one_of(kind: type[Choice], name: str, text: str) -> Choice:
    try:
        return kind(name)
    except ValueError as error:
        known = ", ".join(kind)
        raise ConfigurationError(
            f"`{text}` names `{name}`, which is no {kind.__name__.lower()}.", hint=f"Choose one of: {known}."
        ) from error


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ConfigurationError(
            f"`{text}`: `{value}` is not a number.", hint=f"It is spelled {_FORM}."
        ) from error
