"""sae-lens's training classes by name, with the one change that makes BatchTopK quick on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onesense.errors import ConfigurationError

if TYPE_CHECKING:
    from sae_lens.saes.sae import TrainingSAE

TRAINABLE = ("batchtopk", "topk", "jumprelu", "matryoshka")


@dataclass(frozen=True, slots=True)
class TrainingShape:
    """What is trained.

    Attributes:
        architecture: One of ``TRAINABLE``.
        d_in: Width of the activations.
        d_sae: Number of features.
        k: Wanted L0 (topk, batchtopk, matryoshka); for jumprelu the L0 that the penalty aims at.
        l0_coefficient: Weight of jumprelu's L0 penalty.
        widths: Widths of matryoshka's nested dictionaries, growing, the last one ``d_sae``.
    """

    architecture: str
    d_in: int
    d_sae: int
    k: int
    l0_coefficient: float = 1.0
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.architecture not in TRAINABLE:
            raise ConfigurationError(
                f"`{self.architecture}` cannot be trained.", hint=f"Choose one of: {', '.join(TRAINABLE)}."
            )
        if not 1 <= self.k <= self.d_sae:
            raise ConfigurationError(
                f"k = {self.k} does not fit {self.d_sae} features.",
                hint=f"Choose between 1 and {self.d_sae}.",
            )


class ExactBatchTopK(nn.Module):
    """BatchTopK without sorting every latent: only those above a bound that leaves enough are sorted.

    The kept set is that of sae-lens's ``BatchTopK`` (ties at the last place are all kept).

    Args:
        k: Mean number of active latents per row.
    """

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k
        self._bound = 0.0

    def forward(self, hidden: Tensor) -> Tensor:
        """Latents [batch, d_sae] with all but the largest ``k * batch`` set to zero."""
        latents = hidden.relu()
        wanted = int(self.k * latents.shape[:-1].numel())
        with torch.no_grad():
            flat = latents.detach().flatten()
            candidates = flat[flat > self._bound]
            if candidates.numel() < wanted:
                candidates = flat
            last = candidates.topk(min(wanted, candidates.numel()), sorted=False).values.min()
            # Next batch's threshold lies near this one's: half of it leaves a safe margin.
            self._bound = 0.5 * float(last)
        return torch.where(latents >= last, latents, 0)


def build_training_sae(shape: TrainingShape, metadata: dict[str, Any], *, device: str) -> TrainingSAE[Any]:
    """One of sae-lens's training SAEs.

    Args:
        shape: What to train.
        metadata: Where it belongs (model, hook point, BOS, context), kept in its configuration.
        device: Where it trains.
    """
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
    from sae_lens.saes.matryoshka_batchtopk_sae import (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
    )
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    common: dict[str, Any] = {
        "d_in": shape.d_in,
        "d_sae": shape.d_sae,
        "device": device,
        "normalize_activations": "expected_average_only_in",
        "metadata": SAEMetadata(**metadata),
    }
    if shape.architecture == "jumprelu":
        return JumpReLUTrainingSAE(
            JumpReLUTrainingSAEConfig(**common, l0_coefficient=shape.l0_coefficient, l0_warm_up_steps=500)
        )
    if shape.architecture == "topk":
        return TopKTrainingSAE(TopKTrainingSAEConfig(**common, k=shape.k, use_sparse_activations=False))
    if shape.architecture == "batchtopk":
        sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common, k=float(shape.k)))
    else:
        widths = list(shape.widths) or [max(1, shape.d_sae // part) for part in (16, 4, 1)]
        sae = MatryoshkaBatchTopKTrainingSAE(
            MatryoshkaBatchTopKTrainingSAEConfig(**common, k=float(shape.k), matryoshka_widths=widths)
        )
    sae.activation_fn = ExactBatchTopK(float(shape.k))
    return sae
