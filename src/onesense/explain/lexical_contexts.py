"""The tokens at, before and after the peaks of every feature's contexts, read block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onesense.features.context_accumulator import Arrays
from onesense.features.context_store import block_name
from onesense.features.enrichment import NO_TOKEN
from onesense.store.run_folder import RunFolder

Place = Literal["peak", "before", "after"]
PLACES: dict[Place, int] = {"peak": 0, "before": -1, "after": 1}


@dataclass(frozen=True, slots=True, eq=False)
class PeakTokens:
    """Where features fire, as tokens. A token that goes on a word has its id plus the size of the vocabulary.

    Attributes:
        tokens: By place, int64 [n_features, n_contexts]; ``NO_TOKEN`` where there is none.
        activation: At the peak, float32 [n_features, n_contexts]; 0 where there is no context.
        opening: Whether the peak is the first token that the model saw, bool [n_features, n_contexts].
        population: How often each token stands in the contexts of all features, int64 [2 * vocab].
    """

    tokens: dict[Place, NDArray[np.int64]]
    activation: NDArray[np.float32]
    opening: NDArray[np.bool_]
    population: NDArray[np.int64]


class WordPlaces:
    """Tells tokens that stand by themselves from the same tokens within a word.

    Args:
        texts: The text of each token of the vocabulary, leading space included.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.vocabulary_size = len(texts)
        self._goes_on = np.array([text[:1].isalpha() for text in texts], dtype=np.bool_)
        self._ends_open = np.array([text[-1:].isalpha() for text in texts], dtype=np.bool_)

    def placed(self, token_ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """Ids of tokens in order along the last axis, plus the size of the vocabulary within a word."""
        ids = np.minimum(token_ids.astype(np.int64), self.vocabulary_size - 1)  # padding is above every id
        within = np.zeros(ids.shape, dtype=np.bool_)
        within[..., 1:] = self._goes_on[ids[..., 1:]] & self._ends_open[ids[..., :-1]]
        placed: NDArray[np.int64] = ids + within * self.vocabulary_size
        return placed


def read_peak_tokens(
    run: RunFolder, n_features: int, places: WordPlaces, documents: Callable[[int], bool] | None = None
) -> PeakTokens:
    """Read the tokens at the peaks of all contexts of a run, each context once.

    Args:
        run: What ``onesense extract`` wrote.
        n_features: Features of the run.
        places: Of the model's vocabulary.
        documents: Whether the contexts of a document count, by its number; None for all.

    Raises:
        NotFoundError: The run has no contexts.
        FormatError: A file is damaged.
    """
    population = np.zeros(2 * places.vocabulary_size, np.int64)
    blocks: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]] = []
    read = 0
    while read < n_features:
        blocks.append(_block(run.read_result(block_name(len(blocks))), places, documents, population))
        read += blocks[-1][0].shape[1]
    tokens = np.concatenate([block[0] for block in blocks], axis=1)
    return PeakTokens(
        tokens=dict(zip(PLACES, tokens, strict=True)),
        activation=np.concatenate([block[1] for block in blocks]),
        opening=np.concatenate([block[2] for block in blocks]),
        population=population,
    )


def _block(
    arrays: Arrays,
    places: WordPlaces,
    documents: Callable[[int], bool] | None,
    population: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Tokens [places, features, contexts], activations and openings of a block; adds to ``population``."""
    joined = {name: _joined(arrays, name) for name in ("tokens", "peak", "length", "activation")}
    document, position = (_joined(arrays, name).astype(np.int64) for name in ("document", "position"))
    length, peak = joined["length"].astype(np.int64), joined["peak"].astype(np.int64)
    used = (length > 0) & ~_repeated((document << 32) | position)
    if documents is not None:
        known = np.array(
            [number for number in np.unique(document[used]).tolist() if documents(number)], np.int64
        )
        used &= np.isin(document, known)
    ids = places.placed(joined["tokens"])
    inside = (np.arange(ids.shape[2]) < length[:, :, None]) & used[:, :, None]
    population += np.bincount(ids[inside], minlength=len(population))
    tokens = np.full((len(PLACES), *used.shape), NO_TOKEN, np.int64)
    for row, offset in enumerate(PLACES.values()):
        at = peak + offset
        there = used & (at >= 0) & (at < length)
        picked = np.take_along_axis(ids, np.clip(at, 0, ids.shape[2] - 1)[:, :, None], axis=2)[:, :, 0]
        tokens[row] = np.where(there, picked, NO_TOKEN)
    activation = np.where(used, joined["activation"], np.float32(0)).astype(np.float32)
    return tokens, activation, used & (peak == 0)


def _joined(arrays: Arrays, name: str) -> NDArray[Any]:
    """The strongest contexts and the sample of all bands, one after the other."""
    top, sample = arrays[f"top_{name}"], arrays[f"sample_{name}"]
    joined: NDArray[Any] = np.concatenate([top, sample.reshape(len(top), -1, *sample.shape[3:])], axis=1)
    return joined


def _repeated(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the same key stands further left in the row."""
    order = np.argsort(keys, axis=1, kind="stable")
    ordered = np.take_along_axis(keys, order, axis=1)
    again = np.zeros(keys.shape, dtype=np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(again)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated
