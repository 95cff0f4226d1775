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
            made = handler(data)
            made.check()
        except ValidationError as error:
            fault = _describe(error)
        except ValueError as error:
            fault = str(error)
        else:
            return made
        raise ConfigurationError(
            f"This {cls.__name__.lower()} cannot be used: {fault}.",
            hint=f"Names known here: {', '.join(cls.model_fields)}.",
        )

    def check(self) -> None:
        """Refuse values that do not go together.

        Raises:
            ValueError: They do not; the message says why.
        """


def _describe(error: ValidationError) -> str:
    faults = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(step) for step in fault["loc"])
        message = fault["msg"][:1].lower() + fault["msg"][1:]
        given = "" if fault["type"] == "missing" else f" (given: {fault['input']!r:.60})"
        faults.append(f"`{place}`: {message}{given}" if place else message)
    return "; ".join(faults)
