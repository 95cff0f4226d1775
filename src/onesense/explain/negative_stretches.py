"""Stretches of a few windows, and what every feature does in them: a part of the pool of negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.features.encoding import encoded
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import check_finite, usable_positions
from onesense.sae.dictionary import Dictionary
from onesense.text.windows import Window, batch_windows

Ints = NDArray[np.int32]

_LATENTS_AT_ONCE = 2**22
_NOWHERE = -2.0  # below every cosine
_NEAREST = "nearest_"


@dataclass(frozen=True, slots=True, eq=False)
class StretchesPart:
    """Stretches of a few windows, and where features fire in them.

    Attributes:
        document: Number of each stretch's document, [stretches].
        start: Offset of its first token within the document, [stretches].
        tokens: Its token ids, -1 behind the last, [stretches, width].
        row: Stretch of each entry, [entries].
        feature: Feature of each entry, [entries].
        activation: The feature's largest activation there, [entries].
        position: The token of it, [entries].
    """

    document: Ints
    start: NDArray[np.int64]
    tokens: Ints
    row: Ints
    feature: Ints
    activation: NDArray[np.float32]
    position: Ints


@dataclass(frozen=True, slots=True, eq=False)
class NearestStretches:
    """The nearest stretches so far, nearest first.

    Attributes:
        cosine: Of the stream and what the feature writes, float32 [kept, d_sae].
        stretch: Numbers of stretches, -1 where there are no more, int32 [kept, d_sae].
        position: The token that comes nearest, int32 [kept, d_sae].
    """

    cosine: Tensor
    stretch: Tensor
    position: Tensor

    @classmethod
    def none(cls, n_features: int, kept: int) -> NearestStretches:
        """No stretches yet."""
        shape = (kept, n_features)
        return cls(
            torch.full(shape, _NOWHERE),
            torch.full(shape, -1, dtype=torch.int32),
            torch.zeros(shape, dtype=torch.int32),
        )

    def with_stretches(self, cosine: Tensor, position: Tensor, first: int) -> NearestStretches:
        """With more stretches, numbered from ``first`` on, [stretches, d_sae]."""
        number = torch.arange(first, first + len(cosine), dtype=torch.int32)[:, None].expand_as(cosine)
        return self._kept(cosine, number, position)

    def merged(self, other: NearestStretches, first: int) -> NearestStretches:
        """With those of a later part, which are numbered from ``first`` on."""
        return self._kept(other.cosine, other.stretch + first, other.position)

    def _kept(self, cosine: Tensor, stretch: Tensor, position: Tensor) -> NearestStretches:
        # Of equal ones the earlier: the same whatever the parts are.
        values, order = torch.cat([self.cosine, cosine]).sort(dim=0, descending=True, stable=True)
        values, order = values[: len(self.cosine)].clone(), order[: len(self.cosine)]
        number = torch.cat([self.stretch, stretch]).gather(0, order)
        place = torch.cat([self.position, position]).gather(0, order)
        return NearestStretches(values, torch.where(values > _NOWHERE, number, -1), place)


@dataclass(frozen=True, eq=False)
class StretchReading:
    """Reads a group of windows; can be sent to another process.

    Attributes:
        model: The model.
        dictionary: The features, on the model's device.
        width: Tokens of a stretch.
        kept: Stretches kept a feature that come nearest to it without its firing.
        mean: What is taken from the stream before cosines, [d_in].
    """

    model: LanguageModel
    dictionary: Dictionary
    width: int
    kept: int
    mean: NDArray[np.float32]

    def __call__(self, windows: list[Window]) -> dict[str, NDArray[Any]]:
        """Its stretches, and the nearest among them, numbered from 0; see :func:`stretches_of`."""
        residual, usable = residual_of(self.model, self.dictionary.hook_point, windows)
        nearest = NearestStretches.none(self.dictionary.d_sae, self.kept)
        parts: list[StretchesPart] = []
        stretches = 0
        for part, cosine, where in self._reader.parts(residual, usable, windows):
            nearest = nearest.with_stretches(cosine, where, first=stretches)
            parts.append(part)
            stretches += len(part.document)
        whole = joined(parts)
        return {one.name: getattr(whole, one.name) for one in fields(StretchesPart)} | {
            f"{_NEAREST}{one.name}": getattr(nearest, one.name).numpy() for one in fields(NearestStretches)
        }

    @cached_property
    def _reader(self) -> _Reader:
        return _Reader(self.dictionary, self.width, torch.from_numpy(self.mean).to(self.dictionary.device))


class _Reader:
    """Turns activations into stretches and cosines."""

    def __init__(self, dictionary: Dictionary, width: int, mean: Tensor) -> None:
        self._dictionary = dictionary
        self._width = width
        self._mean = mean
        rows = dictionary.decoder_rows(torch.arange(dictionary.d_sae)).to(dictionary.device).float()
        self._directions = torch.nn.functional.normalize(rows, dim=1)

    def parts(
        self, residual: Tensor, usable: Tensor, windows: list[Window]
    ) -> Iterator[tuple[StretchesPart, Tensor, Tensor]]:
        """Stretches of a batch, few windows at a time, with the cosine and its token for each feature."""
        at_once = max(1, _LATENTS_AT_ONCE // (residual.shape[1] * self._dictionary.d_sae))
        for first in range(0, len(windows), at_once):
            rows = slice(first, first + at_once)
            yield self._part(residual[rows], usable[rows], windows[rows])

    def _part(
        self, residual: Tensor, usable: Tensor, windows: list[Window]
    ) -> tuple[StretchesPart, Tensor, Tensor]:
        flat = residual.flatten(0, 1)
        with torch.no_grad():
            values, limit = encoded(self._dictionary, flat)
            latents = torch.where(values > limit, values, 0).float()
            cosines = torch.nn.functional.normalize(flat.float() - self._mean, dim=1) @ self._directions.T
        counted = usable.flatten()
        latents[~counted] = 0
        cosines[~counted] = _NOWHERE
        shape = (*residual.shape[:2], self._dictionary.d_sae)
        activation, position = self._strongest(latents.view(shape), 0.0)
        cosine, place = self._strongest(cosines.view(shape), _NOWHERE)
        cut, tokens = _stretches(windows, self._width, usable.shape[1])
        activation, position, cosine, place = (one[cut] for one in (activation, position, cosine, place))
        cosine = torch.where(activation > 0, _NOWHERE, cosine)
        row, feature = (one.cpu().numpy().astype(np.int32) for one in activation.nonzero(as_tuple=True))
        part = StretchesPart(
            *tokens,
            row,
            feature,
            activation[row, feature].cpu().numpy(),
            position[row, feature].cpu().numpy().astype(np.int32),
        )
        return part, cosine.cpu(), place.to(torch.int32).cpu()

    def _strongest(self, values: Tensor, nothing: float) -> tuple[Tensor, Tensor]:
        """The largest value of each stretch and its token, [windows * stretches, d_sae]."""
        missing = -values.shape[1] % self._width
        if missing:
            values = torch.nn.functional.pad(values, (0, 0, 0, missing), value=nothing)
        best = values.unflatten(1, (-1, self._width)).max(dim=2)
        return best.values.flatten(0, 1), best.indices.flatten(0, 1)


def _stretches(
    windows: list[Window], width: int, longest: int
) -> tuple[Tensor, tuple[Ints, NDArray[np.int64], Ints]]:
    """Which stretches of a padded batch hold enough text, and their document, start and tokens."""
    each = -(-longest // width)
    cut, document, start = [], [], []
    tokens = []
    for row, window in enumerate(windows):
        for number, first in enumerate(range(0, len(window.ids), width)):
            ids = window.ids[first : first + width]
            # A short rest of a window says too little of where it comes from.
            if len(ids) >= width // 2 or first == 0:
                cut.append(row * each + number)
                document.append(window.document)
                start.append(window.start + first)
                tokens.append([*ids, *[-1] * (width - len(ids))])
    made = (np.array(document, np.int32), np.array(start, np.int64), np.array(tokens, np.int32))
    return torch.tensor(cut), made


def stretches_of(found: dict[str, NDArray[Any]]) -> tuple[StretchesPart, NearestStretches]:
    """What :class:`StretchReading` read, from its arrays.

    Args:
        found: Its result, as it is sent from another process.
    """
    part = StretchesPart(**{one.name: found[one.name] for one in fields(StretchesPart)})
    # Copied: what comes from another process may not be written to, and torch wants to be free to.
    nearest = {
        one.name: torch.from_numpy(found[f"{_NEAREST}{one.name}"].copy()) for one in fields(NearestStretches)
    }
    return part, NearestStretches(**nearest)


def joined(parts: list[StretchesPart]) -> StretchesPart:
    """Parts one after the other, as one."""
    sizes = np.cumsum([0, *(len(part.document) for part in parts)])
    columns = {
        one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(StretchesPart)
    }
    columns["row"] = np.concatenate(
        [part.row + np.int32(first) for part, first in zip(parts, sizes, strict=False)]
    )
    return StretchesPart(**columns)


def residual_of(model: LanguageModel, point: HookPoint, windows: list[Window]) -> tuple[Tensor, Tensor]:
    """The stream of some windows without their BOS, and the positions that count."""
    batch = batch_windows(model, windows)
    residual = capture(model, batch, [point])[point]
    check_finite(residual[batch.content], point, windows[0])
    prefix = 0 if model.bos_id is None else 1
    return residual[:, prefix:], usable_positions(residual, batch.content)[:, prefix:]
