"""A text without a language model: sae-lens's synthetic model, and a dictionary trained on its activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onesense.errors import ConfigurationError
from onesense.sae.training_classes import TrainingShape, build_training_sae
from onesense.senses.activity import Activity, Firings, Floats
from onesense.senses.space import unit_rows

# Positions are drawn one by one and independent; documents are there for the shape only.
_POSITIONS_PER_DOCUMENT = 128
_ROWS_AT_ONCE = 4096
_BATCH = 512
_LEARNING_RATE = 2e-3


@dataclass(frozen=True, slots=True)
class SyntheticSettings:
    """A synthetic model, its text and the dictionary that is trained on it.

    Attributes:
        features: Planted features.
        d_model: Width of the activations, fewer than there are features.
        firing_probability: Of each feature, at each position.
        correlation_rank: Hidden causes that make features fire together.
        correlation_scale: How strongly; rank times its square stays below 1.
        positions: Length of the text.
        dictionary_features: Of the dictionary; not the number of planted ones, which nobody knows of a real model.
        dictionary_l0: Features that it lets fire at a position, on average.
        training_steps: Of 512 positions each.
    """

    features: int = 256
    d_model: int = 64
    firing_probability: float = 0.015
    correlation_rank: int = 12
    correlation_scale: float = 0.25
    positions: int = 150_000
    dictionary_features: int = 384
    dictionary_l0: int = 4
    training_steps: int = 1500

    def __post_init__(self) -> None:
        sizes = (
            self.features,
            self.d_model,
            self.positions,
            self.dictionary_features,
            self.dictionary_l0,
            self.training_steps,
            self.correlation_rank,
        )
        if min(sizes) < 1 or not 0 < self.firing_probability < 1 or self.correlation_scale < 0:
            raise ConfigurationError(
                "Sizes of a synthetic model are above 0, a probability is between 0 and 1."
            )


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticText:
    """What came of it.

    Attributes:
        activity: With the firings of the ``dictionary`` and of the ``planted`` features; tokens say nothing (0).
        directions: What each feature of the dictionary writes, of norm 1, [features, d_model].
        planted_directions: The same of the planted features.
        fvu: Share of variance that the dictionary does not explain.
    """

    activity: Activity
    directions: Floats
    planted_directions: Floats
    fvu: float


def synthetic_text(settings: SyntheticSettings, *, seed: int) -> SyntheticText:
    """Draw a text from a synthetic model and train a dictionary on its activations.

    Args:
        settings: What to make.
        seed: Of model, text and training; the caller's torch seed stays as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stream, planted, planted_directions = _drawn(settings, seed)
        dictionary = _trained(stream, settings)
        latents, fvu = _encoded(dictionary, stream)
    number = np.arange(len(stream), dtype=np.int32)
    same = np.zeros(len(stream), np.int32)
    scale = stream.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-9)
    activity = Activity(
        [(stream / scale).half().numpy()],
        token=same,
        before=same,
        document=number // _POSITIONS_PER_DOCUMENT,
        window=number // _POSITIONS_PER_DOCUMENT,
        offset=number % _POSITIONS_PER_DOCUMENT,
        firings={"dictionary": _firings(latents), "planted": _firings(planted)},
    )
    written = dictionary.W_dec.detach().numpy()
    return SyntheticText(activity, unit_rows(written), unit_rows(planted_directions), fvu)


def _drawn(settings: SyntheticSettings, seed: int) -> tuple[Tensor, Tensor, Floats]:
    """Activations [positions, d_model], latents [positions, features] and directions of the planted features."""
    from sae_lens.synthetic import (
        ConstantFiringProbabilityConfig,
        LowRankCorrelationConfig,
        SyntheticModel,
        SyntheticModelConfig,
    )

    model = SyntheticModel(
        SyntheticModelConfig(
            num_features=settings.features,
            hidden_dim=settings.d_model,
            firing_probability=ConstantFiringProbabilityConfig(settings.firing_probability),
            correlation=LowRankCorrelationConfig(
                rank=settings.correlation_rank, correlation_scale=settings.correlation_scale, seed=seed
            ),
            std_firing_magnitudes=0.25,
            seed=seed,
        )
    )
    parts = []
    for start in range(0, settings.positions, _ROWS_AT_ONCE):
        hidden, latents = model.sample_with_features(min(_ROWS_AT_ONCE, settings.positions - start))
        parts.append((hidden, latents.to_sparse()))
    stream = torch.cat([hidden for hidden, _ in parts])
    planted = torch.cat([latents for _, latents in parts]).coalesce()
    return stream, planted, model.feature_dict.feature_vectors.detach().numpy()


def _trained(stream: Tensor, settings: SyntheticSettings) -> Any:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    shape = TrainingShape("batchtopk", settings.d_model, settings.dictionary_features, settings.dictionary_l0)
    steps = settings.training_steps
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=steps * _BATCH,
            train_batch_size_samples=_BATCH,
            lr=_LEARNING_RATE,
            lr_end=0.0,
            lr_warm_up_steps=min(200, steps // 5),
            lr_decay_steps=steps // 3,
            device="cpu",
            autocast=False,
            n_checkpoints=0,
            checkpoint_path=None,
            save_final_checkpoint=False,
            dead_feature_window=max(1, steps // 4),
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae=build_training_sae(shape, {}, device="cpu"),
        data_provider=_batches(stream),
    )
    rows = _batches(stream)
    # Mean norm sqrt(d_in), and the decoder's bias at the mean, as where dictionaries are trained on a model.
    scale = settings.d_model**0.5 / float(stream.norm(dim=1).mean())
    trainer.activation_scaler.scaling_factor = scale
    with torch.no_grad():
        trainer.sae.b_dec.copy_(stream.mean(dim=0) * scale)
    # fit() of the trainer would draw a progress bar over the caller's.
    while trainer.n_training_steps < steps:
        trainer.maybe_reset_sparsity()
        trainer.step(next(rows))
        trainer.n_training_steps += 1
    trainer.sae.fold_activation_norm_scaling_factor(scale)
    return trainer.sae


def _batches(stream: Tensor) -> Iterator[Tensor]:
    while True:
        yield stream[torch.randint(len(stream), (_BATCH,))]


def _encoded(dictionary: Any, stream: Tensor) -> tuple[Tensor, float]:
    """Latents, sparse [positions, features], and the share of variance left unexplained."""
    parts, left = [], 0.0
    with torch.no_grad():
        for rows in stream.split(_ROWS_AT_ONCE):
            latents = dictionary.encode(rows)
            left += float((dictionary.decode(latents) - rows).double().square().sum())
            parts.append(latents.to_sparse())
        total = float((stream - stream.mean(0)).double().square().sum())
    return torch.cat(parts).coalesce(), left / total


def _firings(latents: Tensor) -> Firings:
    position, unit = (one.numpy() for one in latents.indices())
    value = latents.values().float().numpy()
    fires = value > 0
    position, unit, value = position[fires], unit[fires], value[fires]
    order = np.argsort(unit, kind="stable")
    pointer = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=latents.shape[1]))])
    return Firings(pointer, position[order].astype(np.int32), value[order])
