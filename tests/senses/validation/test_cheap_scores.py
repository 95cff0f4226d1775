from __future__ import annotations

import numpy as np
import pytest
import torch

from onesense.senses.validation.cheap_scores import (
    CONTEXT_SCORES,
    context_scores,
    largest_decoder_cosine,
    lens_kurtosis,
)


def test_context_scores_are_what_they_are_called() -> None:
    tokens = np.array([5, 5, 7, 7])
    stream = np.array([[2, 0], [3, 0], [0, 1], [0, 4]], np.float32)
    cosines = np.stack([np.ones((4, 4)), np.eye(4), np.full((4, 4), 0.5), np.full((4, 4), 0.25)])
    found = dict(zip(CONTEXT_SCORES, context_scores(tokens, stream, cosines), strict=True))
    assert found["token entropy"] == pytest.approx(np.log(2))
    assert found["share of distinct tokens"] == 0.5
    assert found["mean cosine, raw stream"] == pytest.approx(2 / 6)
    assert list(found.values())[3:] == pytest.approx([1, 0, 0.5, 0.25])


def test_a_direction_is_not_compared_with_what_it_is_made_of() -> None:
    dictionary = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0]], np.float32)
    mean = np.array([[0.5**0.5, 0.5**0.5, 0]], np.float32)
    assert largest_decoder_cosine(mean, [[0, 1]], dictionary) == pytest.approx([1.4 * 0.5**0.5])
    assert largest_decoder_cosine(mean, [[0, 2]], dictionary) == pytest.approx([0.5**0.5])


def test_lens_kurtosis_is_that_of_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    unembedding = torch.randn(8, 500, generator=generator)
    directions = torch.randn(3, 8, generator=generator)
    logits = (directions @ unembedding).double()
    z = (logits - logits.mean(1, keepdim=True)) / logits.std(1, correction=0, keepdim=True)
    np.testing.assert_allclose(lens_kurtosis(directions.numpy(), unembedding), z.pow(4).mean(1), rtol=1e-4)
