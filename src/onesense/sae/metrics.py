"""How well a dictionary reconstructs: L0, variance unexplained, dead features; streamed, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError


class ReconstructionMetrics:
    """Sums over tokens, from which L0, FVU and dead share follow; independent of how tokens are batched.

    Args:
        d_sae: Number of latents.
    """

    def __init__(self, d_sae: int) -> None:
        self.tokens = 0
        self._fired = torch.zeros(d_sae, dtype=torch.int64)
        self._squared_error = 0.0
        self._origin: Tensor | None = (
            None  # the first token: sums about it do not cancel as sums about 0 would
        )
        self._sum = torch.zeros(0)
        self._squared_sum = 0.0

    def update(self, activations: Tensor, reconstruction: Tensor, latents: Tensor) -> None:
        """Add some tokens.

        Args:
            activations: What the reconstruction should be (`Dictionary.target`), [..., d_in].
            reconstruction: What `Dictionary.decode` gave, [..., d_in].
            latents: [..., d_sae].

        Raises:
            IncompatibleError: Shapes disagree.
        """
        if activations.shape != reconstruction.shape or latents.shape[-1] != self._fired.numel():
            raise IncompatibleError(
                f"Shapes disagree: activations {tuple(activations.shape)}, reconstruction "
                f"{tuple(reconstruction.shape)}, latents {tuple(latents.shape)}.",
                hint="Measure a dictionary with its own activations.",
            )
        truth = activations.detach().reshape(-1, activations.shape[-1]).cpu().double()
        error = truth - reconstruction.detach().reshape(truth.shape).cpu().double()
        if truth.shape[0] == 0:
            return
        if self._origin is None:
            self._origin, self._sum = truth[0].clone(), torch.zeros_like(truth[0])
        offset = truth - self._origin
        self._squared_error += float(error.square().sum())
        self._sum += offset.sum(dim=0)
        self._squared_sum += float(offset.square().sum())
        self._fired += (latents.detach().reshape(truth.shape[0], self._fired.numel()) > 0).sum(dim=0).cpu()
        self.tokens += truth.shape[0]

    @property
    def l0(self) -> float:
        """Mean number of active latents per token."""
        return float(self._fired.sum()) / self._counted()

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained: sum |x - x̂|² / sum |x - mean(x)|².

        Where all tokens are equal there is no variance: 0 for a perfect reconstruction, else infinity.
        """
        variance = self._squared_sum - float(self._sum.square().sum()) / self._counted()
        if variance <= 0.0:
            return 0.0 if self._squared_error == 0.0 else math.inf
        return self._squared_error / variance

    @property
    def mse(self) -> float:
        """Mean squared error per token and dimension."""
        return self._squared_error / (self._counted() * self._sum.numel())

    @property
    def dead_share(self) -> float:
        """Share of features that never fired."""
        self._counted()
        return float((self._fired == 0).double().mean())

    @property
    def firing_frequency(self) -> Tensor:
        """Share of tokens on which each feature fired, float64 [d_sae]."""
        return self._fired.double() / self._counted()

    def _counted(self) -> int:
        if self.tokens == 0:
            raise ConfigurationError("There is no token to measure on.", hint="Give more text.")
        return self.tokens


def fraction_of_variance_unexplained(activations: Tensor, reconstruction: Tensor) -> float:
    """FVU of one batch; see `ReconstructionMetrics.fvu`.

    Args:
        activations: [..., d_in].
        reconstruction: [..., d_in].
    """
    metrics = ReconstructionMetrics(0)
    metrics.update(activations, reconstruction, activations.new_zeros(*activations.shape[:-1], 0))
    return metrics.fvu
