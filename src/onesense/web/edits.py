"""Edits as a browser sends them, and the recipe that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from onesense.errors import ConfigurationError, NotFoundError
from onesense.model.hook_points import HookPoint
from onesense.steer.edit import Edit, Operation, Unit
from onesense.steer.intervention import EditGroup
from onesense.steer.where import Where, Window
from onesense.web.service import Service
from onesense.web.workspace import KnownDictionary, KnownRun

MOST_EDITS = 500
_MOST_AMOUNT = 1e9

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


class EditRequest(BaseModel):
    """One edit.

    Attributes:
        dictionary: Key of its dictionary.
        feature: Id of the latent.
        operation: What is done.
        value: By how much; None for what needs none.
        unit: What the value is counted in.
        window: Which part of the text.
        first: Only the first so many positions of it.
        last: Only the last so many of the prompt.
        special: Special tokens, too.
    """

    model_config = ConfigDict(extra="forbid")

    dictionary: Key
    feature: int = Field(ge=0, le=2**53)
    operation: Operation = Operation.DIRECTION_ADD
    value: float | None = Field(default=None, allow_inf_nan=False, ge=-_MOST_AMOUNT, le=_MOST_AMOUNT)
    unit: Unit = Unit.RAW
    window: Window = Window.ALL
    first: int | None = Field(default=None, ge=1, le=100_000)
    last: int | None = Field(default=None, ge=1, le=100_000)
    special: bool = False

    def edit(self) -> Edit:
        """The edit itself.

        Raises:
            ConfigurationError: Its parts do not belong together.
        """
        where = Where(window=self.window, first=self.first, last=self.last, special=self.special)
        value = None if self.operation is Operation.ABLATE else self.value
        unit = Unit.RAW if self.operation.is_share else self.unit
        return Edit(feature=self.feature, operation=self.operation, value=value, unit=unit, where=where)


Edits = Annotated[list[EditRequest], Field(max_length=MOST_EDITS)]


def model_of(uses: Service, edits: Sequence[EditRequest]) -> str:
    """Name of the model that the edits are for; that of the first dictionary where there is no edit.

    Raises:
        ConfigurationError: They are for several, or there is nothing to say which.
    """
    known = uses.workspace.dictionaries()
    keys = {edit.dictionary for edit in edits}
    names = {one.model for one in known if one.key in keys} if keys else {one.model for one in known[:1]}
    if len(names) > 1:
        raise ConfigurationError(
            f"These edits are for several models: {', '.join(sorted(names))}.",
            hint="Take out the edits of all but one.",
        )
    if not names:
        raise NotFoundError("No run has this dictionary.", hint="Run `onesense extract` with it.")
    return names.pop()


def edit_groups(uses: Service, edits: Sequence[EditRequest]) -> list[EditGroup]:
    """The edits with their dictionaries, and the numbers that their units need.

    Raises:
        NotFoundError: No run has a dictionary, or a dictionary has no such feature.
        ConfigurationError: An edit cannot be, or what its unit needs is not known.
    """
    made: dict[str, list[Edit]] = {}
    for one in edits:
        made.setdefault(one.dictionary, []).append(one.edit())
    return [_group(uses, uses.workspace.dictionary(key), own) for key, own in made.items()]


def largest_activation(uses: Service, known: KnownDictionary, feature: int) -> float | None:
    """The feature's largest activation in the first extract run that looked; None where none did."""
    run = run_with_contexts(uses, known)
    contexts = None if run is None else uses.opened.get(run).contexts
    if contexts is None or feature >= contexts.n_features:
        return None
    return float(contexts.maximum[feature])


def run_with_contexts(uses: Service, known: KnownDictionary) -> KnownRun | None:
    """The first extract run that looked where its features fire; None where none did."""
    for name in known.extract:
        run = uses.workspace.run(name, "extract")
        if uses.opened.get(run).contexts is not None:
            return run
    return None


def _group(uses: Service, known: KnownDictionary, edits: list[Edit]) -> EditGroup:
    dictionary = uses.resident.dictionary(known)
    largest = max(edit.feature for edit in edits)
    if largest >= dictionary.d_sae:
        raise NotFoundError(
            f"There is no feature {largest} at {known.hook_point}.",
            hint=f"Feature ids run from 0 to {dictionary.d_sae - 1}.",
        )
    units = {edit.unit for edit in edits}
    mean_norm = uses.resident.mean_norm(known.model, known.hook_point) if Unit.NORM in units else None
    maximum = {
        edit.feature: found
        for edit in edits
        if edit.unit is Unit.MAX and (found := largest_activation(uses, known, edit.feature)) is not None
    }
    twice = len({edit.feature for edit in edits}) < len(edits)
    return EditGroup(dictionary, edits, HookPoint.parse(known.hook_point), mean_norm, maximum, stack=twice)
