"""The pool that negatives are drawn from: stretches of test documents, and what every feature does in them."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from onesense.engine.executor import Executor, LocalExecutor
from onesense.errors import ConfigurationError
from onesense.explain.evidence import is_train
from onesense.explain.negative_stretches import (
    Ints,
    NearestStretches,
    StretchesPart,
    StretchReading,
    joined,
    residual_of,
    stretches_of,
)
from onesense.features.context_shards import limit_tokens
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.text.corpus import Document
from onesense.text.windows import Window, iter_windows

Progress = Callable[[int, int | None], None]

_WINDOWS_AT_ONCE = 16
_FEATURES_AT_ONCE = 512


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
    executor: Executor | None = None,
) -> Pool:
    """Run windows through model and dictionary once.

    Args:
        model: The model.
        dictionary: The features.
        windows: From :func:`choose_windows`.
        settings: What is kept.
        progress: Told about windows read.
        executor: Where they are read; None: here. Results do not depend on it.

    Raises:
        NumericalError: NaN or infinity among the activations.
    """
    near = dictionary.to(device=model.device)
    groups = [windows[first : first + _WINDOWS_AT_ONCE] for first in range(0, len(windows), _WINDOWS_AT_ONCE)]
    # The mean of the first windows, which a hash chose, stands for that of all.
    residual, usable = residual_of(model, near.hook_point, groups[0])
    mean = residual[usable].float().mean(0).cpu().numpy()
    work = StretchReading(model, near, settings.width, settings.nearest, mean)
    parts: list[StretchesPart] = []
    nearest = NearestStretches.none(near.d_sae, settings.nearest)
    stretches = done = 0
    results = (executor or LocalExecutor()).map_shards(work, groups)
    for group, found in zip(groups, results, strict=True):
        part, near_ones = stretches_of(found)
        nearest = nearest.merged(near_ones, first=stretches)
        parts.append(part)
        stretches += len(part.document)
        done += len(group)
        if progress is not None:
            progress(done, len(windows))
    return _pool(parts, nearest, near.d_sae)


def _pool(parts: list[StretchesPart], nearest: NearestStretches, n_features: int) -> Pool:
    whole = joined(parts)
    order = np.argsort(whole.feature, kind="stable")
    pointer = np.concatenate([[0], np.cumsum(np.bincount(whole.feature, minlength=n_features))])
    return Pool(
        document=whole.document,
        start=whole.start,
        tokens=whole.tokens,
        pointer=pointer.astype(np.int64),
        stretch=whole.row[order],
        activation=whole.activation[order],
        position=whole.position[order],
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
