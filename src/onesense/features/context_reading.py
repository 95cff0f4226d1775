"""Activations of windows of text at the positions that count."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.errors import NumericalError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.text.windows import Window, batch_windows

IntArray = NDArray[np.signedinteger[Any]]

_CALIBRATION_ROWS = 8
# Hooks sit on the model, so two threads must not read from it at the same time.
_READING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Read:
    """Activations of a batch at the positions that count for something, row by row.

    Attributes:
        activations: [n, d_in].
        norms: Of each of them, float32 [n] on the CPU.
        row: Of the batch, [n].
        position: Within the window, [n].
    """

    activations: Tensor
    norms: Tensor
    row: IntArray
    position: IntArray

    def usual(self, most_norm: float) -> Read:
        """Those whose norm is not outlying."""
        usual = self.norms <= most_norm
        if bool(usual.all()):
            return self
        places = usual.numpy()
        activations = self.activations[usual.to(self.activations.device)]
        return Read(activations, self.norms[usual], self.row[places], self.position[places])


def read_windows(
    model: LanguageModel, points: Sequence[HookPoint], windows: Sequence[Window]
) -> dict[HookPoint, Read]:
    """Activations at every position that is neither BOS, special nor padding; one forward for all hook points.

    Raises:
        NumericalError: NaN or infinity among the activations.
    """
    batch = batch_windows(model, windows)
    with _READING:
        captured = capture(model, batch, list(points))
    row, column = batch.content.nonzero(as_tuple=True)
    prefix = 0 if model.bos_id is None else 1
    rows, positions = row.cpu().numpy(), column.cpu().numpy() - prefix
    found = {}
    for point in points:
        kept = captured[point][row, column]
        norms = torch.linalg.vector_norm(kept, dim=-1, dtype=torch.float32).cpu()
        found[point] = Read(kept, norms, rows, positions)
        if not bool(torch.isfinite(norms).all()):
            finite = torch.isfinite(kept).all(dim=-1).cpu()
            if not bool(finite.all()):
                first = int((~finite).nonzero()[0, 0])
                raise not_finite(point, windows[rows[first]], int(positions[first]))
    return found


def median_norms(
    model: LanguageModel, points: Sequence[HookPoint], windows: Sequence[Window]
) -> dict[HookPoint, float]:
    """Median norm of the activations of some windows at each hook point; infinity where no token of theirs counts.

    Raises:
        NumericalError: NaN or infinity among the activations.
    """
    norms: dict[HookPoint, list[float]] = {point: [] for point in points}
    for start in range(0, len(windows), _CALIBRATION_ROWS):
        read = read_windows(model, points, windows[start : start + _CALIBRATION_ROWS])
        for point, own in norms.items():
            own.extend(read[point].norms.tolist())
    return {point: statistics.median(own) if own else float("inf") for point, own in norms.items()}


def not_finite(point: HookPoint, window: Window, position: int) -> NumericalError:
    """NaN or infinity at a place of the text."""
    return NumericalError(
        f"NaN or infinity at {point} in document {window.document}, token {window.start + position}.",
        hint="Run the model in float32; if it stays, the weights are damaged.",
    )
