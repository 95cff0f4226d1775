"""One change to one feature."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from onesense.steer.checked import Checked
from onesense.steer.where import EVERYWHERE, Where


class Operation(StrEnum):
    """What is done to a feature with latent z and decoder direction W (a row of ``W_dec``).

    Those on the latent add ``(z' - z) * W`` to the activation, so that what the dictionary does not explain
    stays; those on the direction do not look at the latent.
    """

    SCALE = "scale"
    """z' = value * z"""
    ABLATE = "ablate"
    """z' = 0"""
    ADD = "add"
    """z' = max(0, z + value): a latent does not go below zero"""
    CLAMP = "clamp"
    """z' = value, whatever z is"""
    CAP = "cap"
    """z' = min(z, value)"""
    FLOOR = "floor"
    """z' = max(z, value)"""
    DIRECTION_ADD = "direction_add"
    """h' = h + value * W"""
    PROJECT_OUT = "project_out"
    """h' = h - value * (component of h along W); value 1 leaves none"""

    @property
    def on_direction(self) -> bool:
        """Whether the operation works on the direction rather than on the latent."""
        return self in (Operation.DIRECTION_ADD, Operation.PROJECT_OUT)

    @property
    def is_share(self) -> bool:
        """Whether the value is a bare factor, which has no unit."""
        return self in (Operation.SCALE, Operation.ABLATE, Operation.PROJECT_OUT)


class Unit(StrEnum):
    """What a value is counted in.

    ``raw``: the dictionary's own activation. ``max``: times the feature's largest activation in our contexts.
    ``norm``: so much that the vector added is this share of the hook point's mean norm.
    """

    RAW = "raw"
    MAX = "max"
    NORM = "norm"


_DEFAULTS = {Operation.ABLATE: 0.0, Operation.PROJECT_OUT: 1.0}


class Edit(Checked):
    """One change to one feature, to be kept in a recipe.

    Attributes:
        feature: Id of the latent in its dictionary.
        operation: What is done to it.
        value: By how much; may be left out for ``ablate`` (0) and ``project_out`` (1).
        unit: What the value is counted in; ``raw`` for ``scale``, ``ablate`` and ``project_out``.
        where: The positions at which it is done.
    """

    feature: Annotated[int, Field(strict=True, ge=0)]
    operation: Operation = Operation.DIRECTION_ADD
    value: float | None = None
    unit: Unit = Unit.RAW
    where: Where = Where()

    def check(self) -> None:
        """See ``Checked``."""
        if self.value is None and self.operation not in _DEFAULTS:
            raise ValueError(f"`value` is missing: {self.operation} needs one")
        if self.operation is Operation.ABLATE and self.value not in (None, 0):
            raise ValueError(
                f"ablate sets the latent to 0 and takes no value (given: {self.value}); see `scale`"
            )
        if self.operation.is_share and self.unit is not Unit.RAW:
            raise ValueError(f"{self.operation} takes a bare factor, which has no unit (given: {self.unit})")

    @property
    def amount(self) -> float:
        """The value, or what the operation takes where none was given."""
        return _DEFAULTS[self.operation] if self.value is None else self.value

    @classmethod
    def plain(cls, feature: int, coefficient: float) -> Edit:
        """Steering as in the original project: ``coefficient * W_dec[feature]`` everywhere, BOS too."""
        return cls(
            feature=feature,
            operation=Operation.DIRECTION_ADD,
            value=coefficient,
            unit=Unit.RAW,
            where=EVERYWHERE,
        )
