"""How strong an edit is: the norm of what it adds against the norm of what it is added to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from onesense.errors import ConfigurationError, NumericalError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.sae.activations import usable_positions
from onesense.text.corpus import Document, read_documents
from onesense.text.windows import batch_windows, iter_windows

STRONG_DOSE = 1.0
"""Above this relative dose the edit outweighs the activation and text tends to break down."""

_WINDOWS_PER_BATCH = 8


@dataclass(frozen=True, slots=True)
class Dose:
    """What the edits at one hook point did in one run.

    Attributes:
        hook_point: Where.
        positions: Positions whose activation changed.
        relative: Mean norm of what was added there, as a share of the mean norm of the activations; None
            where nothing changed.
        largest: The same for the position that changed most.
        mean_norm: Mean norm of the activations before the edit, over tokens that are not special.
    """

    hook_point: HookPoint
    positions: int
    relative: float | None
    largest: float | None
    mean_norm: float


def dose_warnings(doses: Sequence[Dose]) -> tuple[str, ...]:
    """What the user should know about a run: hook points where nothing changed, doses above 1."""
    lines: list[str] = []
    for point in dict.fromkeys(dose.hook_point for dose in doses):
        here = [dose for dose in doses if dose.hook_point == point]
        if not any(dose.positions for dose in here):
            lines.append(f"The edits at {point} changed no activation: nothing is steered there.")
        strongest = max((dose.relative or 0.0 for dose in here), default=0.0)
        if strongest > STRONG_DOSE:
            lines.append(
                f"The edits at {point} add {strongest:.2f} times the norm of the activations (relative "
                "dose); above 1 the text tends to break down."
            )
    return tuple(lines)


class DoseMeter:
    """Sums up what the edits at one hook point do, without waiting for the device.

    Args:
        point: The hook point.
        special_ids: Tokens that do not count in the mean norm; a BOS has an enormous one.
        mean_norm: Mean norm of the hook point where it is known; otherwise it is measured in the run.
    """

    def __init__(self, point: HookPoint, special_ids: Iterable[int], mean_norm: float | None = None) -> None:
        self.point = point
        self._special = tuple(special_ids)
        self._known = mean_norm
        self._sums: Tensor | None = None

    @torch.no_grad()
    def observe(self, before: Tensor, after: Tensor, positions: Positions) -> None:
        """Count one pass, whose activations were ``before`` and became ``after``, [batch, seq, width]."""
        counted = positions.real
        if self._special and positions.ids is not None:
            counted = counted & ~positions.is_any_of(self._special, "special tokens")
        # Squares of a reckless coefficient overflow float32; Apple's devices have nothing wider.
        wide = torch.float32 if before.device.type == "mps" else torch.float64
        norms = before.norm(dim=-1, dtype=torch.float32)
        changes = (
            torch.zeros_like(norms, dtype=wide)
            if after is before
            else (after.to(wide) - before.to(wide)).norm(dim=-1)
        )
        sums = torch.stack(
            [
                (changes != 0).sum(dtype=wide),
                changes.sum(dtype=wide),
                torch.where(counted, norms, 0).sum(dtype=wide),
                counted.sum(dtype=wide),
                changes.max().to(wide),
                norms.sum(dtype=wide),
                torch.tensor(norms.numel(), dtype=wide, device=norms.device),
            ]
        )
        self._count(sums)

    def add(self, other: DoseMeter) -> None:
        """Count what another meter of the same hook point has counted."""
        if other._sums is not None:
            self._count(other._sums)

    def _count(self, sums: Tensor) -> None:
        if self._sums is None:
            self._sums = sums
            return
        largest = torch.maximum(self._sums[4], sums[4])
        self._sums = self._sums + sums
        self._sums[4] = largest

    def read(self) -> Dose:
        """What was done so far."""
        if self._sums is None:
            return Dose(self.point, 0, None, None, self._known or 0.0)
        changed, change, norm, counted, largest, every_norm, everything = self._sums.tolist()
        measured = norm / counted if counted else every_norm / everything
        mean_norm = self._known or measured
        if changed == 0 or mean_norm == 0:
            return Dose(self.point, int(changed), None, None, mean_norm)
        return Dose(self.point, int(changed), change / changed / mean_norm, largest / mean_norm, mean_norm)


def measure_mean_norm(
    model: LanguageModel,
    point: HookPoint,
    documents: Iterable[Document] | None = None,
    *,
    tokens: int = 2000,
    context_size: int = 128,
) -> float:
    """Mean norm of the activations at a hook point, for unit ``norm``.

    Special tokens and outliers (norm over five times the median) are left out: the first position of most
    models has an enormous norm.

    Args:
        model: The model.
        point: The hook point.
        documents: Text to measure on; None for the packaged sample.
        tokens: How many tokens to look at, at least.
        context_size: Length of a window, in tokens.

    Raises:
        ConfigurationError: The text holds no token.
        NumericalError: The activations are NaN or infinite.
    """
    windows = iter_windows(
        model,
        read_documents() if documents is None else documents,
        context_size=min(context_size, model.max_context),
    )
    found: list[Tensor] = []
    seen = 0
    while seen < tokens and (some := list(islice(windows, _WINDOWS_PER_BATCH))):
        batch = batch_windows(model, some)
        activations = capture(model, batch, [point])[point]
        if not bool(activations[batch.content].isfinite().all()):
            raise NumericalError(
                f"The activations of `{model.name}` at `{point}` are NaN or infinite.",
                hint="Load the model in float32 or bfloat16.",
            )
        usable = usable_positions(activations, batch.content)
        norms = activations.norm(dim=-1, dtype=torch.float32)[usable]
        found.append(norms.cpu())
        seen += len(norms)
    if seen == 0:
        raise ConfigurationError("The text to measure on holds no token.", hint="Give a longer text.")
    return float(torch.cat(found).mean())
