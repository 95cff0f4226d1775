"""Contexts of features whose senses are known, and a model small enough to read a text for every test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.senses import ruler
from onesense.senses.activity import Activity, Firings
from onesense.senses.judge import DrawUnion, fit_judge
from onesense.senses.sampling import Sample
from onesense.senses.space import ContextVectors, SenseSpace, fit_space
from onesense.senses.unit_sets import matched_thresholds
from onesense.text.corpus import Document
from onesense.text.windows import batch_windows, iter_windows

POINT = HookPoint(1, "hook_resid_post")
FEATURES, COMPANIONS, CONTEXTS, WIDTH = 100, 50, 48, 32
_WORDS = (
    "river",
    "stone",
    "cloud",
    "seven",
    "lamp",
    "winter",
    "paper",
    "horse",
    "glass",
    "orange",
    "music",
    "door",
)


def firings_of(latents: NDArray[np.floating]) -> Firings:
    """Firings of dense latents, [positions, units]."""
    unit, position = np.nonzero(latents.T)
    pointer = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=latents.shape[1]))])
    return Firings(pointer, position.astype(np.int32), latents.T[unit, position].astype(np.float32))


def activity_of(
    latents: dict[str, NDArray[np.floating]],
    residual: NDArray[np.floating],
    document: NDArray[np.integer] | None = None,
) -> Activity:
    """An activity whose token is the row's number modulo 50, in documents of 60 positions."""
    rows = np.arange(len(residual), dtype=np.int32)
    return Activity(
        [residual.astype(np.float16)],
        token=rows % 50,
        before=rows % 50 - 1,
        document=(rows // 60 if document is None else document).astype(np.int32),
        window=rows // 60,
        offset=rows % 60,
        firings={name: firings_of(one) for name, one in latents.items()},
    )


@dataclass(frozen=True)
class Planted:
    """A text in which each position belongs to one feature.

    Attributes:
        activity: The text; the set "features" has the features, then the companions.
        latents: Theirs, dense, [positions, units].
        directions: What they write, of norm 1, [units, d_model].
        feature: Which feature each position belongs to, [positions].
    """

    activity: Activity
    latents: NDArray[np.float32]
    directions: NDArray[np.float32]
    feature: NDArray[np.int64]

    def sample(self, feature: int) -> Sample:
        """All contexts of a feature in random order."""
        position = np.random.default_rng(feature).permutation(np.flatnonzero(self.feature == feature))
        return Sample(position.astype(np.int32), self.latents[position, feature])

    def space(self) -> SenseSpace:
        """The space that is learned from all features."""
        samples = [self.sample(one) for one in range(FEATURES)]
        return fit_space(self.activity, "features", self.directions, samples, seed=0)

    def vectors(self, space: SenseSpace) -> list[ContextVectors]:
        """Of the contexts of each feature."""
        return [space.vectors(self.sample(one), self.directions[one]) for one in range(FEATURES)]


def planted(seed: int = 0) -> Planted:
    """Contexts of a feature share a mean and companions; a far larger variation is common to all contexts."""
    generator = np.random.default_rng(seed)
    feature = generator.permutation(np.repeat(np.arange(FEATURES), CONTEXTS))
    positions, units = len(feature), FEATURES + COMPANIONS
    means = np.zeros((FEATURES, WIDTH))
    means[:, : WIDTH // 2] = generator.standard_normal((FEATURES, WIDTH // 2))
    spread = np.concatenate([np.full(WIDTH // 2, 0.5), np.full(WIDTH // 2, 4.0)])
    residual = means[feature] + spread * generator.standard_normal((positions, WIDTH))
    fires = generator.random((positions, units)) < 0.01
    fires[:, :FEATURES] = np.arange(FEATURES) == feature[:, None]
    for one in range(FEATURES):
        rows = np.flatnonzero(feature == one)
        own = FEATURES + generator.choice(COMPANIONS, 3, replace=False)
        fires[np.ix_(rows, own)] = generator.random((len(rows), 3)) < 0.7
    latents = (fires * (0.5 + generator.gamma(2.0, size=fires.shape))).astype(np.float32)
    directions = generator.standard_normal((units, WIDTH))
    directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    return Planted(activity_of({"features": latents}, residual), latents, directions, feature)


def union(vectors: list[ContextVectors], sizes: dict[int, int], seed: int = 0) -> ContextVectors:
    """So many contexts of each of some features, in random order."""
    together = joined([vectors[feature].take(slice(0, number)) for feature, number in sizes.items()])
    return together.take(np.random.default_rng(seed).permutation(len(together)))


@contextmanager
def quick_judge() -> Iterator[None]:
    """Judges of measurements learn from few unions; that is enough for tiny models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ruler, "fit_judge", partial(fit_judge, unions=120))
        yield


def documents(number: int = 60, words: int = 18, seed: int = 0) -> list[Document]:
    """Random sentences, about 100 bytes each."""
    generator = np.random.default_rng(seed)
    return [
        Document(index, f"text {index}", " ".join(generator.choice(_WORDS, words))) for index in range(number)
    ]


def sparse_dictionary(
    model: LanguageModel,
    *,
    d_sae: int = 120,
    density: float = 0.012,
    seed: int = 0,
) -> Dictionary:
    """Random directions of the stream that fire rarely; the last two fire never, and at every token."""
    generator = torch.Generator().manual_seed(seed)
    windows = list(iter_windows(model, documents(), context_size=64))
    batch = batch_windows(model, windows)
    rows = capture(model, batch, [POINT])[POINT][batch.content].float()
    encoder = torch.randn(rows.shape[1], d_sae, generator=generator)
    encoder[:, -2:] = 0
    bias = torch.zeros(d_sae)
    bias[-2:] = torch.tensor([-1.0, 1.0])
    threshold = matched_thresholds(rows @ encoder, torch.full((d_sae,), density).double(), seed=0)
    threshold[-2:] = 0.5
    decoder = torch.randn(d_sae, rows.shape[1], generator=generator)
    return Dictionary(
        architecture=Architecture.JUMPRELU,
        hook_point=POINT,
        W_enc=encoder,
        b_enc=bias,
        W_dec=decoder,
        b_dec=torch.zeros(rows.shape[1]),
        threshold=threshold,
    )


def joined(parts: Sequence[ContextVectors]) -> ContextVectors:
    """Contexts of several units as one set."""
    return ContextVectors(
        np.concatenate([part.shared for part in parts]),
        np.concatenate([part.written for part in parts]),
        csr_array(vstack([part.firing for part in parts], format="csr")),
    )


def unions_among(features: Sequence[ContextVectors]) -> DrawUnion:
    """Unions of features and single ones, among contexts that are vectors already."""

    def draw(size: int, shares: Sequence[float], generator: np.random.Generator) -> ContextVectors:
        chosen = generator.choice(len(features), len(shares), replace=False)
        counts = np.maximum(2, np.round(size * np.array(shares))).astype(int)
        counts[counts.argmax()] += size - counts.sum()
        parts = [
            features[int(at)].take(generator.permutation(len(features[int(at)]))[:count])
            for at, count in zip(chosen, counts, strict=True)
        ]
        return joined(parts).take(generator.permutation(size))

    return draw
