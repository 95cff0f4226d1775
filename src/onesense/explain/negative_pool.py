"""The pool that negatives are drawn from: stretches of test documents, and what every feature does in them."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from onesense.errors import ConfigurationError
from onesense.explain.evidence import is_train
from onesense.features.context_shards import limit_tokens
from onesense.features.encoding import encoded
from onesense.model.capture import capture
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import check_finite, usable_positions
from onesense.sae.dictionary import Dictionary
from onesense.text.corpus import Document
from onesense.text.windows import Window, batch_windows, iter_windows

Progress = Callable[[int, int | None], None]
Ints = NDArray[np.int32]

_WINDOWS_AT_ONCE = 16
_LATENTS_AT_ONCE = 2**22
_FEATURES_AT_ONCE = 512
_NOWHERE = -2.0  # below every cosine


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How large the pool is.

    Attributes:
        windows: Windows of test documents that are read.
        context_size: Tokens that the model sees at once, BOS included.
        width: Tokens of a stretch.
        nearest: Stretches kept a feature that come nearest to it without its firing.
        partners: Features kept a feature that fire most often with it.
        most_tokens: Tokens of test documents among which windows are chosen.
        seed: Of the division of documents and of the choice of windows.
    """

    windows: int = 512
    context_size: int = 128
    width: int = 32
    nearest: int = 32
    partners: int = 8
    most_tokens: int = 2_000_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("windows", "width", "nearest", "partners", "most_tokens"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"`{name}` must be at least 1.", hint="Give a larger number.")


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Stretches, and where features fire among them.

    Attributes:
        document: Number of each stretch's document, [stretches].
        start: Offset of its first token within the document, [stretches].
        tokens: Its token ids, -1 behind the last, [stretches, width].
        pointer: Feature f has the entries ``pointer[f]`` to ``pointer[f + 1] - 1``, int64 [d_sae + 1].
        stretch: Stretch of each entry, ascending within a feature, [entries].
        activation: The feature's largest activation there, float32 [entries].
        position: The token of it, [entries].
        nearest: Stretches where a feature does not fire but whose residual is nearest to what it writes, nearest
            first, -1 where there are no more, [d_sae, nearest].
        nearest_position: The token of it, [d_sae, nearest].
        similarity: Cosine there, [d_sae, nearest].
    """

    document: Ints
    start: NDArray[np.int64]
    tokens: Ints
    pointer: NDArray[np.int64]
    stretch: Ints
    activation: NDArray[np.float32]
    position: Ints
    nearest: Ints
    nearest_position: Ints
    similarity: NDArray[np.float32]

    def __len__(self) -> int:
        """Stretches."""
        return len(self.document)

    @property
    def n_features(self) -> int:
        """Features of the dictionary."""
        return len(self.pointer) - 1

    def firings(self, feature: int) -> slice:
        """The entries of one feature."""
        return slice(int(self.pointer[feature]), int(self.pointer[feature + 1]))


def choose_windows(
    model: LanguageModel, documents: Iterable[Document], settings: PoolSettings
) -> list[Window]:
    """Windows of test documents by a seeded hash, in the order of the hash.

    Raises:
        ConfigurationError: No test document holds a token, or the context does not fit the model.
    """
    test = (one for one in documents if not is_train(one.index, settings.seed))
    windows = limit_tokens(
        iter_windows(model, test, context_size=settings.context_size), settings.most_tokens
    )
    ranked = ((_rank(window, settings.seed), number, window) for number, window in enumerate(windows))
    chosen = [window for _, _, window in heapq.nsmallest(settings.windows, ranked)]
    if not chosen:
        raise ConfigurationError(
            "No document is left for scoring: every one that holds a token is read for explaining.",
            hint="Give text of more documents, one a line in a .jsonl file, or another --seed.",
        )
    return chosen


def _rank(window: Window, seed: int) -> int:
    name = f"{seed}:{window.document}:{window.start}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def read_pool(
    model: LanguageModel,
    dictionary: Dictionary,
    windows: list[Window],
    settings: PoolSettings,
    progress: Progress | None = None,
) -> Pool:
    """Run windows through model and dictionary once.

    Raises:
        NumericalError: NaN or infinity among the activations.
    """
    near = dictionary.to(device=model.device)
    reader = _Reader(near, settings)
    parts: list[_Part] = []
    nearest = _Nearest.none(near.d_sae, settings.nearest)
    stream = iter(windows)
    done = 0
    while group := list(islice(stream, _WINDOWS_AT_ONCE)):
        batch = batch_windows(model, group)
        residual = capture(model, batch, [near.hook_point])[near.hook_point]
        check_finite(residual[batch.content], near.hook_point, group[0])
        prefix = 0 if model.bos_id is None else 1
        usable = usable_positions(residual, batch.content)[:, prefix:]
        for part, cosine, where in reader.parts(residual[:, prefix:], usable, group):
            nearest = nearest.merged(cosine, where, first=sum(len(one.document) for one in parts))
            parts.append(part)
        done += len(group)
        if progress is not None:
            progress(done, len(windows))
    return _pool(parts, nearest, near.d_sae)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Stretches of a few windows; ``active`` is sparse, [stretches, d_sae], as are the tokens of the peaks."""

    document: Ints
    start: NDArray[np.int64]
    tokens: Ints
    row: Ints
    feature: Ints
    activation: NDArray[np.float32]
    position: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Nearest:
    """The nearest stretches so far, [kept, d_sae] each."""

    cosine: Tensor
    stretch: Tensor
    position: Tensor

    @classmethod
    def none(cls, n_features: int, kept: int) -> _Nearest:
        shape = (kept, n_features)
        return cls(
            torch.full(shape, _NOWHERE),
            torch.full(shape, -1, dtype=torch.int32),
            torch.zeros(shape, dtype=torch.int32),
        )

    def merged(self, cosine: Tensor, position: Tensor, first: int) -> _Nearest:
        """With more stretches, numbered from ``first`` on, [stretches, d_sae]."""
        number = torch.arange(first, first + len(cosine), dtype=torch.int32)[:, None].expand_as(cosine)
        every = torch.cat([self.cosine, cosine])
        kept = every.topk(len(self.cosine), dim=0)
        stretch = torch.cat([self.stretch, number]).gather(0, kept.indices)
        place = torch.cat([self.position, position]).gather(0, kept.indices)
        return _Nearest(kept.values, torch.where(kept.values > _NOWHERE, stretch, -1), place)


class _Reader:
    """Turns activations into stretches and cosines."""

    def __init__(self, dictionary: Dictionary, settings: PoolSettings) -> None:
        self._dictionary = dictionary
        self._width = settings.width
        self._prefix_mean: Tensor | None = None
        rows = dictionary.decoder_rows(torch.arange(dictionary.d_sae)).to(dictionary.device).float()
        self._directions = torch.nn.functional.normalize(rows, dim=1)

    def parts(
        self, residual: Tensor, usable: Tensor, windows: list[Window]
    ) -> Iterator[tuple[_Part, Tensor, Tensor]]:
        """Stretches of a batch, few windows at a time, with the cosine and its token for each feature."""
        if self._prefix_mean is None:
            # The mean of the first windows, which a hash chose, stands for that of all.
            self._prefix_mean = residual[usable].float().mean(0)
        at_once = max(1, _LATENTS_AT_ONCE // (residual.shape[1] * self._dictionary.d_sae))
        for first in range(0, len(windows), at_once):
            rows = slice(first, first + at_once)
            yield self._part(residual[rows], usable[rows], windows[rows], self._prefix_mean)

    def _part(
        self, residual: Tensor, usable: Tensor, windows: list[Window], mean: Tensor
    ) -> tuple[_Part, Tensor, Tensor]:
        flat = residual.flatten(0, 1)
        with torch.no_grad():
            values, limit = encoded(self._dictionary, flat)
            latents = torch.where(values > limit, values, 0).float()
            cosines = torch.nn.functional.normalize(flat.float() - mean, dim=1) @ self._directions.T
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
        part = _Part(
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


def _pool(parts: list[_Part], nearest: _Nearest, n_features: int) -> Pool:
    sizes = np.cumsum([0, *(len(part.document) for part in parts)])
    stretch = np.concatenate([part.row + int(first) for part, first in zip(parts, sizes, strict=False)])
    feature = np.concatenate([part.feature for part in parts])
    order = np.argsort(feature, kind="stable")
    pointer = np.concatenate([[0], np.cumsum(np.bincount(feature, minlength=n_features))])
    return Pool(
        document=np.concatenate([part.document for part in parts]),
        start=np.concatenate([part.start for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
        pointer=pointer.astype(np.int64),
        stretch=stretch[order].astype(np.int32),
        activation=np.concatenate([part.activation for part in parts])[order],
        position=np.concatenate([part.position for part in parts])[order],
        nearest=np.ascontiguousarray(nearest.stretch.numpy().T),
        nearest_position=np.ascontiguousarray(nearest.position.numpy().T),
        similarity=np.ascontiguousarray(nearest.cosine.numpy().T),
    )


def partners(pool: Pool, directions: Tensor, number: int) -> Ints:
    """For each feature the others that fire most often in the same stretches, most often first.

    By the phi coefficient over stretches; for a feature that fires in none of them by the cosine of what they
    write. -1 where there are no more.

    Args:
        pool: The pool.
        directions: What features write, [d_sae, d_in].
        number: How many.

    Returns:
        Ids of features, [d_sae, number].
    """
    n, stretches = pool.n_features, len(pool)
    fires = sparse.csc_array(
        (np.ones(len(pool.stretch), np.float32), pool.stretch, pool.pointer), shape=(stretches, n)
    )
    by_stretch = fires.tocsr()
    count = np.diff(pool.pointer).astype(np.float64)
    spread = np.sqrt(count * (stretches - count))
    unit = torch.nn.functional.normalize(directions.float().cpu(), dim=1)
    found = np.full((n, number), -1, np.int32)
    for first in range(0, n, _FEATURES_AT_ONCE):
        own = np.arange(first, min(first + _FEATURES_AT_ONCE, n))
        both = (fires[:, own].T @ by_stretch).toarray()
        with np.errstate(divide="ignore", invalid="ignore"):
            phi = (both * stretches - np.outer(count[own], count)) / np.outer(spread[own], spread)
        phi = np.nan_to_num(phi, nan=-1.0, posinf=-1.0, neginf=-1.0)
        silent = own[count[own] == 0]
        if len(silent):
            phi[silent - first] = np.where(count > 0, (unit[silent] @ unit.T).numpy(), -1.0)
        phi[own - first, own] = -np.inf
        best = np.sort(np.argpartition(-phi, min(number, n) - 1, axis=1)[:, :number], axis=1)
        ranked = np.argsort(-np.take_along_axis(phi, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, ranked, axis=1)
        kept = np.take_along_axis(phi, best, axis=1) > 0
        found[own, : best.shape[1]] = np.where(kept, best, -1)
    return found
