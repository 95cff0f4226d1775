"""Meta dictionary: how much of the decoder rows a small dictionary of them explains.

Leask et al. 2025, *Sparse Autoencoders Do Not Find Canonical Units of Analysis*, arXiv:2502.04878; settings
are those of SAEBench after Bussmann et al. 2025, arXiv:2503.17547. The more is explained, the less the
features are atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.sae.training_classes import TrainingShape, build_training_sae
from onesense.senses.field_metrics.estimate import Estimate, Floats, estimates, ratio

if TYPE_CHECKING:
    from sae_lens.saes.sae import TrainingSAE


@dataclass(frozen=True, slots=True)
class MetaSettings:
    """How a meta dictionary is trained.

    Attributes:
        width_share: Its width, as a share of the live features; never below ``k``.
        k: Mean number of active latents for one decoder row (BatchTopK, Bussmann et al. 2024,
            arXiv:2412.06410).
        steps: Steps of Adam.
        batch_size: Decoder rows of one step, drawn with replacement.
        learning_rate: Adam's; it stays.
        held_out: Share of the rows that are not trained on.
        seed: Of the rows held out, of the initial weights and of the batches.
    """

    width_share: float = 0.25
    k: int = 4
    steps: int = 1500
    batch_size: int = 1024
    learning_rate: float = 5e-4
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.k, self.steps, self.batch_size) < 1 or self.seed < 0:
            raise ConfigurationError("k, steps and rows of a batch start at 1, and a seed at 0.")
        for name, share in (("width", self.width_share), ("share held out", self.held_out)):
            if not 0 < share < 1:
                raise ConfigurationError(f"The {name} of {share} is not between 0 and 1.")
        if not 0 < self.learning_rate < 1:
            raise ConfigurationError(
                f"A learning rate of {self.learning_rate} cannot work.", hint="Try 5e-4."
            )


@dataclass(frozen=True, slots=True)
class MetaExplained:
    """Share of the variance of decoder rows that a meta dictionary explains; 1 is all of it.

    Attributes:
        held_out: On rows that it was not trained on, with an interval over rows; negative where it is worse
            than their mean.
        in_sample: On the rows that it was trained on, the figure that SAEBench gives.
        width: Latents of the meta dictionary.
        trained_rows: Decoder rows that it was trained on.
        held_out_rows: Decoder rows held out.
    """

    held_out: Estimate
    in_sample: Estimate
    width: int
    trained_rows: int
    held_out_rows: int


def meta_dictionary(
    decoder: Tensor,
    *,
    live: Tensor | None = None,
    settings: MetaSettings | None = None,
    draws: int = 2000,
) -> MetaExplained:
    """Train a meta dictionary on the decoder rows of live features, and say how much it explains.

    Rows are scaled to norm 1, so that only their direction counts.

    Args:
        decoder: As ``Dictionary.W_dec``, [d_sae, d_in].
        live: Which features fire, bool [d_sae]; None for all. A row of zeros counts as dead.
        settings: Width, steps, share held out.
        draws: Bootstrap draws over rows, of both figures.

    Raises:
        ConfigurationError: k is larger than the number of live features, or too few rows are left to train on
            or to hold out.
        IncompatibleError: Shapes disagree.
        NumericalError: NaN or infinity in the decoder, or training diverged.
    """
    settings = settings or MetaSettings()
    rows = _live_rows(decoder, live)
    order = np.random.default_rng([settings.seed, 0]).permutation(len(rows))
    held = max(2, round(settings.held_out * len(rows)))
    if settings.k > len(rows) or len(rows) - held < 2:
        raise ConfigurationError(
            f"{len(rows)} live features are too few for a meta dictionary with k = {settings.k}.",
            hint="Take a dictionary with more live features, or a smaller k.",
        )
    kept, apart = rows[order[held:]], rows[order[:held]]
    width = max(math.ceil(settings.width_share * len(rows)), settings.k)
    # training draws from torch's own generator: nobody else's numbers change
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        sae = _trained(kept, width, settings)
    return MetaExplained(
        held_out=_explained(sae, apart, settings, draws),
        in_sample=_explained(sae, kept, settings, draws),
        width=width,
        trained_rows=len(kept),
        held_out_rows=len(apart),
    )


def _live_rows(decoder: Tensor, live: Tensor | None) -> Tensor:
    if decoder.ndim != 2 or (live is not None and live.shape != decoder.shape[:1]):
        raise IncompatibleError(
            f"The decoder has shape {list(decoder.shape)}"
            + ("." if live is None else f", and {list(live.shape)} values tell which features are live."),
            hint="Give a decoder [d_sae, d_in], and true or false for each feature.",
        )
    rows = decoder.detach().float()
    if not bool(rows.isfinite().all()):
        raise NumericalError(
            "The decoder holds NaN or infinity.", hint="The file is damaged; download or train it again."
        )
    norms = torch.linalg.vector_norm(rows, dim=1)
    alive = norms > 0 if live is None else (norms > 0) & live.to(rows.device, torch.bool)
    directions: Tensor = rows[alive] / norms[alive, None]
    return directions


def _trained(rows: Tensor, width: int, settings: MetaSettings) -> TrainingSAE[Any]:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    device = str(rows.device)
    shape = TrainingShape("batchtopk", rows.shape[1], width, settings.k)
    sae = build_training_sae(shape, {}, device=device)
    config = SAETrainerConfig(
        total_training_samples=settings.steps * settings.batch_size,
        train_batch_size_samples=settings.batch_size,
        lr=settings.learning_rate,
        lr_end=settings.learning_rate,
        device=device,
        logger=LoggingConfig(log_to_wandb=False),
    )
    batches = _batches(rows, settings)
    trainer: Any = SAETrainer(cfg=config, sae=sae, data_provider=batches)
    for step in range(1, settings.steps + 1):
        trainer.maybe_reset_sparsity()
        output = trainer.step(next(batches))
        trainer.n_training_steps = step
    if not bool(torch.isfinite(output.loss)):
        raise NumericalError(
            f"The meta dictionary's training diverged within {settings.steps} steps.",
            hint="Lower the learning rate.",
        )
    return sae


def _batches(rows: Tensor, settings: MetaSettings) -> Iterator[Tensor]:
    generator = np.random.default_rng([settings.seed, 1])
    while True:
        yield rows[torch.from_numpy(generator.integers(len(rows), size=settings.batch_size)).to(rows.device)]


@torch.no_grad()
def _explained(sae: TrainingSAE[Any], rows: Tensor, settings: MetaSettings, draws: int) -> Estimate:
    """1 minus squared errors over squared distances from the rows' mean, from float64 sums."""
    mean = rows.double().mean(dim=0)
    parts = []
    # as in SAEBench, k latents a row are active on average over a block: blocks of nearly equal size
    for block in rows.tensor_split(math.ceil(len(rows) / settings.batch_size)):
        errors = block.double() - sae.decode(sae.encode(block)).double()
        spread = block.double() - mean
        parts.append(torch.stack([errors.square().sum(dim=1), spread.square().sum(dim=1)], dim=1))
    sums: Floats = torch.cat(parts).cpu().numpy()
    return estimates(
        sums, lambda drawn: 1 - ratio(drawn[:, :1], drawn[:, 1:]), draws=draws, seed=settings.seed, unit="row"
    )[0]
