"""Metrics against ground truth that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.sae.metrics import ReconstructionMetrics, fraction_of_variance_unexplained


def test_known_values() -> None:
    # variance about the mean (2, 2): 4 per dimension and token -> 16 in all; squared error: 1 + 3² = 10
    activations = torch.tensor([[0.0, 0.0], [4.0, 4.0]])
    reconstruction = torch.tensor([[1.0, 0.0], [4.0, 1.0]])
    latents = torch.tensor([[1.0, 0.0, 0.0, 2.0], [0.5, 0.0, 0.0, 0.0]])
    metrics = ReconstructionMetrics(4)
    metrics.update(activations, reconstruction, latents)
    assert metrics.fvu == pytest.approx(10 / 16)
    assert metrics.mse == pytest.approx(10 / 4)
    assert metrics.l0 == 1.5
    assert metrics.dead_share == 0.5
    assert metrics.firing_frequency.tolist() == [1.0, 0.0, 0.0, 0.5]
    assert metrics.tokens == 2


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0, 2.0])
def test_noise_of_known_size_gives_its_share(offset: float, noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(20_000, 8, generator=generator, dtype=torch.float64)
    error = noise * torch.randn(20_000, 8, generator=generator, dtype=torch.float64)
    # a large common offset must not drown the variance
    fvu = fraction_of_variance_unexplained(signal + offset, signal + offset + error)
    assert fvu == pytest.approx(noise**2, rel=0.02)


def test_perfect_and_mean_reconstructions() -> None:
    x = torch.randn(100, 5)
    assert fraction_of_variance_unexplained(x, x) == 0.0
    mean = x.double().mean(dim=0).expand(100, 5)
    assert fraction_of_variance_unexplained(x, mean) == pytest.approx(1.0)


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_independent_of_batches(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    x = 100.0 + torch.randn(n, 6, generator=generator)
    out = x + torch.randn(n, 6, generator=generator)
    latents = torch.randn(n, 9, generator=generator).relu()
    whole, parts = ReconstructionMetrics(9), ReconstructionMetrics(9)
    whole.update(x, out, latents)
    for rows in zip(x.split(sizes), out.split(sizes), latents.split(sizes), strict=True):
        parts.update(*rows)
    assert (parts.l0, parts.dead_share, parts.tokens) == (whole.l0, whole.dead_share, whole.tokens)
    for name in ("fvu", "mse"):
        one, other = getattr(parts, name), getattr(whole, name)
        assert one == pytest.approx(other, rel=1e-9) or (math.isinf(one) and math.isinf(other))


@given(value=st.floats(-1e6, 1e6, width=32), n=st.integers(1, 20))
def test_equal_tokens_have_no_variance(value: float, n: int) -> None:
    x = torch.full((n, 3), value)
    assert fraction_of_variance_unexplained(x, x) == 0.0
    assert fraction_of_variance_unexplained(x, x + 10.0 + abs(value)) == math.inf


def test_half_precision_is_summed_in_double() -> None:
    x = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert fraction_of_variance_unexplained(x, torch.zeros_like(x)) == pytest.approx(
        float(x.double().square().sum() / (x.double() - x.double().mean(dim=0)).square().sum()), rel=1e-9
    )


def test_empty_batches_and_extra_dimensions() -> None:
    metrics = ReconstructionMetrics(2)
    metrics.update(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 2))
    with pytest.raises(ConfigurationError, match="no token"):
        _ = metrics.fvu
    x = torch.randn(2, 5, 3)
    metrics.update(x, x, torch.ones(2, 5, 2))
    assert metrics.tokens == 10


def test_shapes_that_disagree_are_refused() -> None:
    metrics = ReconstructionMetrics(2)
    with pytest.raises(IncompatibleError):
        metrics.update(torch.zeros(4, 3), torch.zeros(4, 2), torch.zeros(4, 2))
    with pytest.raises(IncompatibleError):
        metrics.update(torch.zeros(4, 3), torch.zeros(4, 3), torch.zeros(4, 3))
