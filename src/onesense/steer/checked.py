"""What every part of a recipe has in common: checked when made, unchangeable after, unknown names refused."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from onesense.errors import ConfigurationError


class Checked(BaseModel):
    """A frozen model whose faults are told in the user's words, not in a traceback.

    Raises:
        ConfigurationError: A value is missing, unknown, out of range, NaN or infinite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _tell_faults(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise ConfigurationError(
                f"{cls._noun()}: {_describe(error)}.",
                hint=f"Names known here: {', '.join(cls.model_fields)}.",
            ) from None


def _describe(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(step) for step in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        given = "" if fault["type"] in ("missing", "value_error") else f" (given: {fault['input']!r:.60})"
        faults.append(f"`{place}`: {message}{given}" if place else message)
    return "; ".join(faults)
