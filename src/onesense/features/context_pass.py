"""The forward side of the contexts pass: windows through model and dictionary, firings to the tables."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.errors import NumericalError
from onesense.features.context_accumulator import Arrays, ContextShape, ShardAccumulator
from onesense.features.context_kernel import WindowTable
from onesense.features.context_shards import plan_batches, row_chunks, window_ids
from onesense.features.encoding import encoded
from onesense.features.firings import FiringList, NotFiniteError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.text.windows import Window, batch_windows

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary

IntArray = NDArray[np.signedinteger[Any]]

_LATENTS_AT_ONCE = 2**22  # 16 MiB of float32: what is encoded is still in cache when it is looked through
_FIRINGS_AT_ONCE = 2**18  # what is known about a feature comes into the cache once for so many firings
_CALIBRATION_ROWS = 8
# Hooks sit on the model, so two threads must not read from it at the same time.
_READING = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Read:
    """Activations of a batch at the positions that count for something, row by row."""

    activations: Tensor  # [n, d_in]
    norms: Tensor  # [n] float32 on the CPU
    row: IntArray  # [n] of the batch
    position: IntArray  # [n] within the window


@dataclass(frozen=True, slots=True)
class ContextPass:
    """Turns a shard into its partial result; can be sent to another process.

    Attributes:
        model: The model.
        dictionary: The dictionary, in the model's dtype and on its device.
        shape: How much is kept.
        most_norm: Positions with a larger norm do not count.
        batch_tokens: Most tokens of a batch.
        done: Told the number of tokens after each batch.
    """

    model: LanguageModel
    dictionary: Dictionary
    shape: ContextShape
    most_norm: float
    batch_tokens: int
    done: Callable[[int], None] | None = None

    def telling(self, done: Callable[[int], None] | None) -> ContextPass:
        """The same pass, that tells somebody else."""
        return replace(self, done=done)

    def __call__(self, table: WindowTable) -> Arrays:
        """Statistics and contexts of the windows of one shard.

        Raises:
            NumericalError: NaN or infinity among the activations.
        """
        accumulator = ShardAccumulator(self.shape, table)
        firings = FiringList(self.shape.n_features)
        prefix = 0 if self.model.bos_id is None else 1
        for batch in plan_batches((table.length + prefix).tolist(), self.batch_tokens):
            self._take(accumulator, firings, batch)
            if self.done is not None:
                self.done(int(table.length[batch].sum()))
        accumulator.update(firings.take())
        return accumulator.partial()

    def _take(self, accumulator: ShardAccumulator, firings: FiringList, batch: list[int]) -> None:
        table = accumulator.table
        windows = [
            Window(int(table.document[row]), int(table.start[row]), window_ids(table, row)) for row in batch
        ]
        read = _read(self.model, self.dictionary.hook_point, windows)
        usual = (read.norms <= self.most_norm).numpy()
        accumulator.count_tokens(
            seen=int(table.length[batch].sum()), counted=int(usual.sum()), outliers=int((~usual).sum())
        )
        row, position = read.row[usual], read.position[usual]
        activations = read.activations
        if not usual.all():
            activations = activations[torch.from_numpy(usual).to(activations.device)]
        at_once = max(_LATENTS_AT_ONCE // self.shape.n_features, 1)
        edges = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(batch)))])
        for rows in row_chunks(np.diff(edges).tolist(), at_once):
            part = slice(int(edges[rows.start]), int(edges[rows.stop]))
            if part.start < part.stop:
                self._list(firings, activations[part], windows, batch, row[part], position[part])
            if len(firings) >= _FIRINGS_AT_ONCE:
                accumulator.update(firings.take())

    def _list(
        self,
        firings: FiringList,
        activations: Tensor,
        windows: list[Window],
        batch: list[int],
        row: IntArray,
        position: IntArray,
    ) -> None:
        """List the firings of some tokens; on its own, so that their latents are gone before the next."""
        with torch.no_grad():
            values, limit = encoded(self.dictionary, activations)
        try:
            numbers = np.asarray(batch, dtype=np.int32)[row]
            firings.add(values, numbers, position.astype(np.int32), limit)
        except NotFiniteError as error:
            window, place = windows[row[error.token]], int(position[error.token])
            raise _not_finite(self.dictionary.hook_point, window, place) from error


def median_norm(model: LanguageModel, point: HookPoint, windows: Sequence[Window]) -> float:
    """Median norm of the activations of some windows; infinity where no token of theirs counts.

    Raises:
        NumericalError: NaN or infinity among the activations.
    """
    norms: list[float] = []
    for start in range(0, len(windows), _CALIBRATION_ROWS):
        norms.extend(_read(model, point, windows[start : start + _CALIBRATION_ROWS]).norms.tolist())
    return statistics.median(norms) if norms else float("inf")


def _read(model: LanguageModel, point: HookPoint, windows: Sequence[Window]) -> _Read:
    """Activations at every position that is neither BOS, special nor padding."""
    batch = batch_windows(model, windows)
    with _READING:
        activations = capture(model, batch, [point])[point]
    row, column = batch.content.nonzero(as_tuple=True)
    kept = activations[row, column]
    norms = torch.linalg.vector_norm(kept, dim=-1, dtype=torch.float32).cpu()
    prefix = 0 if model.bos_id is None else 1
    read = _Read(kept, norms, row.cpu().numpy(), column.cpu().numpy() - prefix)
    if not bool(torch.isfinite(norms).all()):
        finite = torch.isfinite(kept).all(dim=-1).cpu()
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0, 0])
            raise _not_finite(point, windows[read.row[first]], int(read.position[first]))
    return read


def _not_finite(point: HookPoint, window: Window, position: int) -> NumericalError:
    return NumericalError(
        f"NaN or infinity at {point} in document {window.document}, token {window.start + position}.",
        hint="Run the model in float32; if it stays, the weights are damaged.",
    )
