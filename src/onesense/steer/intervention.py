"""Edits made ready to run: the change to one hook point's activations.

``h <- h + sum_i (z'_i - z_i) * W_dec[i]`` in the model's own units; only the edited latents are computed.
What the dictionary does not explain is never touched, and an entry whose change is zero keeps its bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.sae.dictionary import Dictionary
from onesense.steer.edit import Edit, Operation
from onesense.steer.units import raw_amounts
from onesense.steer.where import Selector, Where

LATENT_OPERATIONS: Mapping[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    Operation.SCALE: lambda latents, amounts: latents * amounts,
    Operation.ABLATE: lambda latents, _: torch.zeros_like(latents),
    Operation.ADD: lambda latents, amounts: (latents + amounts).clamp(min=0),
    Operation.CLAMP: lambda latents, amounts: amounts.expand_as(latents),
    Operation.CAP: torch.minimum,
    Operation.FLOOR: torch.maximum,
}


@dataclass(frozen=True)
class EditGroup:
    """The edits at one hook point.

    Attributes:
        dictionary: Whose features are edited.
        edits: The edits.
        hook_point: Where they act; None for the dictionary's own hook point.
        mean_norm: Mean norm of the activations there, for unit ``norm``.
        max_activation: Largest activation of features by id, for unit ``max``.
        stack: Whether several edits may share a feature.
    """

    dictionary: Dictionary
    edits: Sequence[Edit]
    hook_point: HookPoint | None = None
    mean_norm: float | None = None
    max_activation: Mapping[int, float] = field(default_factory=dict)
    stack: bool = False

    @property
    def point(self) -> HookPoint:
        """Where the edits act."""
        return self.hook_point or self.dictionary.hook_point


class _Step(NamedTuple):
    """Edits that can be made in one go: one operation, one ``where``, no feature twice.

    ``edits`` are indices into the amounts, ``rows`` into the decoder rows, both long [n].
    """

    operation: Operation
    selector: int
    edits: Tensor
    rows: Tensor

    def to(self, device: torch.device) -> _Step:
        """The same step on another device."""
        return self._replace(edits=self.edits.to(device), rows=self.rows.to(device))


class Intervention:
    """The change that a group of edits makes to the activations at its hook point.

    Latents are computed once, from the activation as it comes. Edits on one latent (``stack``) act on it in
    their order. Latent changes and added directions are summed, and directions are projected out last, so
    that nothing of them is left.

    Args:
        model: The model to be edited.
        group: The edits.

    Attributes:
        point: Where it acts.
        amounts: Amount of each edit in unit ``raw``, float32 [edits]. See ``with_amounts``.
        row_norms: Norm of each edit's decoder row in the model's units.
        mean_norm: Mean norm of the activations at the hook point, where it is known.

    Raises:
        NotFoundError: A feature id is out of range.
        ConfigurationError: Two edits share a feature and ``stack`` is off; a unit needs a number not known.
        IncompatibleError: The dictionary is not as wide as the hook point.
        HookPointError: The hook point does not exist in this model.
        NumericalError: A decoder row is NaN, infinite, or zero where its direction matters.
    """

    def __init__(self, model: LanguageModel, group: EditGroup) -> None:
        self.point = group.point
        self.edits = tuple(group.edits)
        self.mean_norm = group.mean_norm
        _check(model, group)
        features = sorted({edit.feature for edit in self.edits})
        self._features = torch.tensor(features, dtype=torch.long, device=model.device)
        dictionary = group.dictionary
        # Moving a dictionary checks every tensor of it again, which takes a while for a large one.
        on_device = dictionary.device == model.device
        self._dictionary = dictionary if on_device else dictionary.to(device=model.device)
        self._rows = self._dictionary.decoder_rows(self._features).to(torch.float32)
        norms = _row_norms(self._rows, features)
        self.row_norms = tuple(norms[edit.feature] for edit in self.edits)
        self.amounts = raw_amounts(
            self.edits, self.row_norms, mean_norm=group.mean_norm, max_activation=group.max_activation
        ).to(model.device)
        wheres = tuple(dict.fromkeys(edit.where for edit in self.edits))
        self._selectors = tuple(Selector(where, model) for where in wheres)
        row_of = {feature: row for row, feature in enumerate(features)}
        latent, added, projected = _plan(self.edits, wheres, row_of, model.device)
        self._latent_rows, self._latent_steps = _narrow(latent, len(features), model.device)
        self._added = added
        self._projected = [(step, self._inverse(step)) for step in projected]

    def with_amounts(self, amounts: Tensor) -> Intervention:
        """The same edits by other amounts, [edits] in unit ``raw``; gradients flow back to them."""
        if amounts.shape != self.amounts.shape:
            raise ConfigurationError(
                f"There are {len(self.edits)} edits, and {list(amounts.shape)} amounts were given.",
                hint="Give one amount for each edit.",
            )
        twin = object.__new__(Intervention)
        twin.__dict__.update(self.__dict__)
        twin.amounts = amounts.to(self._rows.device)
        return twin

    def to(self, device: torch.device) -> Intervention:
        """The same edits on another device; itself where it is there already."""
        if device == self._features.device:
            return self
        twin = object.__new__(Intervention)
        twin.__dict__.update(self.__dict__)
        twin._dictionary = self._dictionary.to(device=device)
        for name in ("_features", "_rows", "amounts", "_latent_rows"):
            setattr(twin, name, getattr(self, name).to(device))
        twin._latent_steps = [step.to(device) for step in self._latent_steps]
        twin._added = [step.to(device) for step in self._added]
        twin._projected = [(step.to(device), inverse.to(device)) for step, inverse in self._projected]
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> Intervention:
        """Itself: it never changes, and its dictionary may be large."""
        return self

    @property
    def needs_prompt_end(self) -> bool:
        """Whether an edit depends on where the prompt ends."""
        return any(edit.where.needs_prompt_end for edit in self.edits)

    def directions(self) -> Tensor:
        """The decoder row of each edit's feature in the model's units, float32 [edits, width]."""
        place = {feature: row for row, feature in enumerate(self._features.tolist())}
        return self._rows[[place[edit.feature] for edit in self.edits]]

    def __call__(self, hidden: Tensor, positions: Positions) -> Tensor:
        """Change activations.

        Args:
            hidden: Activations at the hook point, [batch, seq, width], in any floating dtype.
            positions: Where its entries stand.

        Returns:
            The new activations; entries that do not change keep their bits.
        """
        if not self.edits:
            return hidden
        exact = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        chosen = [selector(positions)[..., None] for selector in self._selectors]
        delta = self._latent_change(exact, chosen) + self._addition(exact, chosen)
        for step, inverse in self._projected:
            along = self._component(exact + delta, step, inverse)
            delta = torch.where(chosen[step.selector], delta - along, delta)
        if delta.requires_grad:
            touched = torch.stack(chosen).any(0)
            return torch.where(touched, (exact + delta).to(hidden.dtype), hidden)
        # Adding 0 would turn -0.0 into 0.0.
        return torch.where(delta == 0, hidden, (exact + delta).to(hidden.dtype))

    def _latent_change(self, hidden: Tensor, chosen: Sequence[Tensor]) -> Tensor:
        if not self._latent_steps:
            return torch.zeros_like(hidden)
        features = self._features[self._latent_rows]
        inputs = hidden.to(torch.float32)
        before = self._dictionary.encode_features(inputs, features).to(torch.float32)
        after = before
        for step in self._latent_steps:
            old = after[..., step.rows]
            new = LATENT_OPERATIONS[step.operation](old, self.amounts[step.edits])
            after = after.index_copy(-1, step.rows, torch.where(chosen[step.selector], new, old))
        change: Tensor = (after - before) @ self._rows[self._latent_rows]
        if self._dictionary.preparation.normalization.per_token:
            change = change * self._dictionary.token_scale(inputs)
        return change.to(hidden.dtype)

    def _addition(self, hidden: Tensor, chosen: Sequence[Tensor]) -> Tensor:
        total = torch.zeros((), dtype=hidden.dtype, device=hidden.device)
        for step in self._added:
            vector = (self.amounts[step.edits] @ self._rows[step.rows]).to(hidden.dtype)
            total = total + torch.where(chosen[step.selector], vector, 0)
        return total

    def _component(self, hidden: Tensor, step: _Step, inverse: Tensor) -> Tensor:
        """What to take away along the step's directions, jointly, so that their order does not matter."""
        coordinates = hidden @ inverse.to(hidden.dtype)
        weighted = coordinates * self.amounts[step.edits].to(hidden.dtype)
        along: Tensor = weighted @ self._rows[step.rows].to(hidden.dtype)
        return along

    def _inverse(self, step: _Step) -> Tensor:
        """The pseudo-inverse of the step's directions, [width, directions]."""
        zero = [self.edits[index].feature for index in step.edits.tolist() if self.row_norms[index] == 0]
        if zero:
            raise NumericalError(
                f"The decoder row of feature {zero[0]} is zero: there is no direction to project out.",
                hint="The feature is dead; choose another.",
            )
        # On the CPU: Apple's devices have no float64.
        inverse: Tensor = torch.linalg.pinv(self._rows[step.rows].cpu().to(torch.float64))
        return inverse.to(self._rows.device, torch.float32)


def _check(model: LanguageModel, group: EditGroup) -> None:
    width, dictionary = model.resolve(group.point).width, group.dictionary
    if width != dictionary.d_in:
        raise IncompatibleError(
            f"The dictionary reads activations of width {dictionary.d_in}, and `{group.point}` of "
            f"`{model.name}` has width {width}.",
            hint="It was trained on another model or another hook point.",
        )
    seen: set[int] = set()
    for edit in group.edits:
        if edit.feature >= dictionary.d_sae:
            raise NotFoundError(
                f"Feature {edit.feature} is out of range: the dictionary has {dictionary.d_sae} features.",
                hint=f"Feature ids run from 0 to {dictionary.d_sae - 1}.",
            )
        if edit.feature in seen and not group.stack:
            raise ConfigurationError(
                f"Feature {edit.feature} is edited twice at `{group.point}`.",
                hint="Leave one out, or allow it with stack=True.",
            )
        seen.add(edit.feature)


def _row_norms(rows: Tensor, features: Sequence[int]) -> dict[int, float]:
    norms = dict(zip(features, rows.norm(dim=-1).tolist(), strict=True))
    broken = [feature for feature, norm in norms.items() if not norm < float("inf")]
    if broken:
        raise NumericalError(
            f"The decoder row of feature {broken[0]} is NaN or infinite.",
            hint="The dictionary's file is damaged.",
        )
    return norms


def _plan(
    edits: Sequence[Edit], wheres: Sequence[Where], row_of: Mapping[int, int], device: torch.device
) -> tuple[list[_Step], list[_Step], list[_Step]]:
    """Steps on latents in their order, steps that add directions, and steps that project them out."""
    selector_of = {where: index for index, where in enumerate(wheres)}
    turns: dict[int, int] = {}
    steps: dict[tuple[int, int, Operation], list[int]] = {}
    for index, edit in enumerate(edits):
        turn = 0
        if not edit.operation.on_direction:
            turn = turns.get(edit.feature, 0)
            turns[edit.feature] = turn + 1
        steps.setdefault((turn, selector_of[edit.where], edit.operation), []).append(index)
    latent, added, projected = [], [], []
    for (_, selector, operation), members in sorted(steps.items(), key=lambda item: item[0][0]):
        rows = [row_of[edits[index].feature] for index in members]
        step = _Step(
            operation, selector, torch.tensor(members, device=device), torch.tensor(rows, device=device)
        )
        if operation is Operation.DIRECTION_ADD:
            added.append(step)
        elif operation is Operation.PROJECT_OUT:
            projected.append(step)
        else:
            latent.append(step)
    return latent, added, projected


def _narrow(steps: Sequence[_Step], n_rows: int, device: torch.device) -> tuple[Tensor, list[_Step]]:
    """The decoder rows that steps on latents touch, and those steps with ``rows`` counted among them."""
    used = sorted({row for step in steps for row in step.rows.tolist()})
    place = torch.zeros(n_rows, dtype=torch.long, device=device)
    place[used] = torch.arange(len(used), device=device)
    return torch.tensor(used, dtype=torch.long, device=device), [
        step._replace(rows=place[step.rows]) for step in steps
    ]
