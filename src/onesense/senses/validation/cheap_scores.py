"""Cheap measures that claim to say the same as the number of senses, on the sets of the union test.

Some belong to a set of contexts (token entropy, share of distinct tokens, mean cosine of all pairs): they mean the
same for a union as for one feature. Others belong to what a unit writes (lens kurtosis, largest decoder cosine). A
unit that stood for both features would write the mean of their directions, weighted by their shares of the contexts:
that direction is what these two are computed from. Its cosines with the two features themselves are left out, as a
feature's cosine with itself is. The larger of the two features' own values is no measure of a union: the larger of
two numbers exceeds a third in two cases of three, whatever the numbers say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.features.lens import lens_statistics
from onesense.senses.activity import Floats
from onesense.senses.space import VIEWS, unit_rows

CONTEXT_SCORES = (
    "token entropy",
    "share of distinct tokens",
    "mean cosine, raw stream",
    *(f"mean cosine, {view}" for view in VIEWS),
)
"""What ``context_scores`` gives."""

LENS_KURTOSIS = "lens kurtosis"
DECODER_COSINE = "largest decoder cosine"


def context_scores(
    tokens: NDArray[np.integer], stream: Floats, cosines: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The ``CONTEXT_SCORES`` of one set of contexts.

    Args:
        tokens: Token where the unit fires, [contexts].
        stream: The residual stream there as it is, [contexts, d_model].
        cosines: Of all pairs in each view, [views, contexts, contexts].
    """
    _, counts = np.unique(tokens, return_counts=True)
    chance = counts / counts.sum()
    rows = unit_rows(stream)
    raw = (rows @ rows.T).astype(np.float64)
    return np.array(
        [
            -(chance * np.log(chance)).sum(),
            len(counts) / len(tokens),
            *(_mean_of_pairs(one) for one in (raw, *cosines)),
        ]
    )


def lens_kurtosis(directions: Floats, unembedding: Tensor) -> NDArray[np.float64]:
    """Kurtosis of the logits that each direction promotes, [n].

    Args:
        directions: [n, d_model].
        unembedding: As ``onesense.model.unembedding`` gives it, [d_model, vocabulary].
    """
    return lens_statistics(torch.from_numpy(directions), unembedding.cpu(), k=1).kurtosis


def largest_decoder_cosine(
    directions: Floats, made_of: Sequence[Sequence[int]], dictionary: Floats
) -> NDArray[np.float64]:
    """Largest cosine with a feature of the dictionary, [n].

    Args:
        directions: Of norm 1, [n, d_model].
        made_of: For each the features that it is made of, which do not count.
        dictionary: What each feature writes, of norm 1, [features, d_model].
    """
    cosines = (directions @ dictionary.T).astype(np.float64)
    for row, own in enumerate(made_of):
        cosines[row, list(own)] = -np.inf
    return np.asarray(cosines.max(axis=1))


def _mean_of_pairs(cosines: NDArray[np.float64]) -> float:
    number = len(cosines)
    return float((cosines.sum() - np.trace(cosines)) / (number * (number - 1)))
