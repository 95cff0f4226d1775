"""Run a model with edits: a context in which its activations are changed, and only there."""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor

from onesense.errors import ConfigurationError
from onesense.model.capture import forward_arguments
from onesense.model.hook_points import HookPoint
from onesense.model.hooks import Firings, Write, writing
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.model.tokens import TokenBatch
from onesense.steer.dose import Dose, DoseMeter, dose_warnings
from onesense.steer.intervention import EditGroup, Intervention
from onesense.steer.recipe import Recipe

Edits: TypeAlias = Recipe | Sequence[EditGroup | Intervention]
"""Whatever says what to edit: a recipe, or edits with their dictionaries."""


class SteeringWarning(UserWarning):
    """Edits that did nothing, or that are so strong that the text breaks down."""


class Report:
    """What the edits did while they were applied.

    Attributes:
        firings: How often each hook ran.
    """

    def __init__(self, firings: Firings, meters: Mapping[tuple[HookPoint, int], DoseMeter]) -> None:
        self.firings = firings
        self._meters = meters

    def add(self, other: Report) -> None:
        """Count what the same edits did in another run."""
        for point, count in other.firings.counts.items():
            self.firings.counts[point] = self.firings.counts.get(point, 0) + count
        for place, meter in other._meters.items():
            self._meters[place].add(meter)

    @property
    def doses(self) -> tuple[Dose, ...]:
        """The strength of the edits, for each hook point and variant of the rows."""
        return tuple(meter.read() for meter in self._meters.values())

    def doses_of(self, variant: int) -> tuple[Dose, ...]:
        """The strength of the edits of one variant of the rows, for each hook point."""
        return tuple(meter.read() for (_, its), meter in self._meters.items() if its == variant)

    @property
    def positions(self) -> int:
        """Positions whose activation changed, over all hook points and rows."""
        return sum(dose.positions for dose in self.doses)

    def warnings(self) -> tuple[str, ...]:
        """What the user should know: edits without effect, doses above 1."""
        return dose_warnings(self.doses)


def prepare(model: LanguageModel, edits: Edits, *, force: bool = False) -> list[Intervention]:
    """Make edits ready to run; groups without an edit are left out.

    Args:
        model: The model to be edited.
        edits: A recipe, or edits with their dictionaries.
        force: Whether to go on with another model or dictionary than the recipe was made for.

    Raises:
        IncompatibleError: The recipe or a dictionary does not belong to this model.
        ConfigurationError: Two edits share a feature without ``stack``, or a unit needs a number not known.
        NotFoundError: A feature or a hook point does not exist.
    """
    groups = edits.groups(model, force=force) if isinstance(edits, Recipe) else edits
    ready = [group if isinstance(group, Intervention) else Intervention(model, group) for group in groups]
    return [intervention for intervention in ready if intervention.edits]


@contextmanager
def applied(
    model: LanguageModel,
    edits: Edits,
    *,
    prompt_lengths: Sequence[int] | None = None,
    force: bool = False,
    warn: bool = True,
) -> Iterator[Report]:
    """Run the model with edits for as long as the block runs.

    The hooks go away however the block ends. The model is locked to this thread meanwhile; blocks may be
    nested in one thread, and the inner edits see what the outer ones made. Nothing to edit installs nothing.

    Args:
        model: The model.
        edits: A recipe, or edits with their dictionaries.
        prompt_lengths: Real tokens of each row's prompt. Needed only where an edit depends on the prompt's
            end and text is generated without a cache, or a prompt is read in chunks.
        force: Whether to go on with another model or dictionary than the recipe was made for.
        warn: Whether to issue a ``SteeringWarning`` where nothing changed or the dose is above 1.

    Yields:
        What the edits do; read it when the model has run.

    Raises:
        HookPointError: The block ended well and an edit's hook never ran.
        IncompatibleError, ConfigurationError, NotFoundError: See ``prepare``.

    Example:
        >>> with applied(model, recipe) as report:  # doctest: +SKIP
        ...     logits = model.hf(ids).logits
        >>> report.positions  # doctest: +SKIP
        17
    """
    with applied_by_row(
        model, [prepare(model, edits, force=force)], None, prompt_lengths=prompt_lengths
    ) as report:
        yield report
    if warn:
        for line in report.warnings():
            python_warnings.warn(line, SteeringWarning, stacklevel=3)


@contextmanager
def applied_by_row(
    model: LanguageModel,
    variants: Sequence[Sequence[Intervention]],
    rows: Sequence[int | None] | None,
    *,
    prompt_lengths: Sequence[int] | None = None,
) -> Iterator[Report]:
    """Run the model with other edits in each row of the batch.

    Args:
        model: The model.
        variants: Lists of interventions.
        rows: For each row of the batch the index of its variant, or None for a row that is left alone. None
            instead of a list: every row has the first variant.
        prompt_lengths: Real tokens of each row's prompt.

    Yields:
        What the edits do.

    Raises:
        HookPointError: The block ended well and an edit's hook never ran.
        ConfigurationError: The batch that is run has another number of rows.
    """
    at_point: dict[HookPoint, list[tuple[int, Intervention, DoseMeter]]] = {}
    meters: dict[tuple[HookPoint, int], DoseMeter] = {}
    for variant, interventions in enumerate(variants):
        for one in interventions:
            meter = DoseMeter(one.point, model.special_ids, one.mean_norm)
            meters[one.point, variant] = meter
            at_point.setdefault(one.point, []).append((variant, one, meter))
    writes = {point: _write(members, rows) for point, members in at_point.items()}
    if not writes:
        yield Report(Firings(()), {})
        return
    with writing(model, writes, prompt_lengths=prompt_lengths) as firings:
        yield Report(firings, meters)
    firings.require_all(model)


def changes_nothing(model: LanguageModel, edits: Edits, batch: TokenBatch, *, force: bool = False) -> bool:
    """Whether edits leave every activation of some tokens as it is.

    Args:
        model: The model.
        edits: A recipe, or edits with their dictionaries.
        batch: The tokens to try, [batch, seq].
        force: Whether to go on with another model or dictionary than the recipe was made for.
    """
    arguments = forward_arguments(batch) | {"attention_mask": batch.attention_mask}
    lengths: list[int] = batch.attention_mask.sum(1).tolist()
    with applied(model, edits, force=force, prompt_lengths=lengths, warn=False) as report, torch.no_grad():
        model.hf.base_model(**arguments)
    return report.positions == 0


def _write(
    members: Sequence[tuple[int, Intervention, DoseMeter]], rows: Sequence[int | None] | None
) -> Write:
    """What the hook at one point does to the whole batch."""

    def write(hidden: Tensor, positions: Positions) -> Tensor:
        written = hidden
        for variant, intervention, meter in members:
            chosen = _rows_of(variant, rows, hidden)
            if chosen is None:
                before, there = written, positions
            elif len(chosen):
                before, there = written[chosen], positions.take(chosen)
            else:
                continue
            after = intervention(before, there)
            meter.observe(before, after, there)
            written = after if chosen is None else written.index_copy(0, chosen, after)
        return written

    return write


def _rows_of(variant: int, rows: Sequence[int | None] | None, hidden: Tensor) -> Tensor | None:
    """The rows of the batch that have a variant; None for all of them."""
    if rows is None:
        return None
    if len(rows) != hidden.shape[0]:
        raise ConfigurationError(
            f"Edits were given for {len(rows)} rows, and the batch has {hidden.shape[0]}.",
            hint="Give one entry for each row of the batch; beams and returned sequences are rows too.",
        )
    mine = [row for row, its in enumerate(rows) if its == variant]
    return None if len(mine) == len(rows) else torch.tensor(mine, dtype=torch.long, device=hidden.device)
