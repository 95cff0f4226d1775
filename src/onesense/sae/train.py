"""Train a dictionary from harvested activations, with sae-lens's training classes and trainer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from onesense.errors import ConfigurationError, FormatError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.sae.activations import ActivationStream
from onesense.sae.training_classes import TrainingShape, build_training_sae
from onesense.store.atomic import atomic_folder, write_text
from onesense.store.run_folder import RunFolder
from onesense.store.seal import is_whole, seal_folder

if TYPE_CHECKING:
    from sae_lens.training.sae_trainer import SAETrainer

_CHECKPOINT = "checkpoint"
_CURVES = "curves.jsonl"
_DIGEST = "sha256"
_LOG_EVERY = 25
_PREPARATION_BATCHES = 8


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a dictionary is trained.

    Attributes:
        visits: Activations seen in all, repeats counted.
        batch_size: Activations of one step.
        learning_rate: Adam's, after 200 steps of warm-up; it falls to 0 over the last third.
        seed: Of the initial weights and of the shuffle.
        checkpoint_every: Steps between checkpoints.
        autocast: Matrix products in bfloat16; quick where the hardware has units for it.
    """

    visits: int = 6_000_000
    batch_size: int = 2048
    learning_rate: float = 5e-4
    seed: int = 0
    checkpoint_every: int = 500
    autocast: bool = False

    def __post_init__(self) -> None:
        if min(self.visits, self.batch_size, self.checkpoint_every) < 1 or self.visits < self.batch_size:
            raise ConfigurationError(
                "Training needs at least one whole batch.", hint="Raise --visits or lower --batch-size."
            )
        if not 0 < self.learning_rate < 1:
            raise ConfigurationError(
                f"A learning rate of {self.learning_rate} cannot work.", hint="Try 5e-4."
            )


class CurvePoint(NamedTuple):
    """One logged step of training.

    Attributes:
        step: Step, from 1.
        loss: The training loss, in the scaled space.
        l0: Mean number of active latents.
        fvu: Fraction of variance unexplained within the batch.
        dead_share: Share of features that have not fired in the last 1,000 steps.
    """

    step: int
    loss: float
    l0: float
    fvu: float
    dead_share: float


def train_dictionary(
    shape: TrainingShape,
    activations: RunFolder,
    point: HookPoint,
    shards: list[int],
    folder: Path,
    settings: TrainSettings,
    *,
    metadata: dict[str, Any],
    device: str = "cpu",
    progress: Callable[[CurvePoint, int], None] | None = None,
) -> Path:
    """Train, and leave an inference dictionary as a SAELens folder in ``folder / "dictionary"``.

    A checkpoint is kept in ``folder``; the same call goes on from it and ends in the same weights.

    Args:
        shape: What to train.
        activations: The run that ``harvest`` filled.
        point: Which of its hook points.
        shards: Which of its shards to train on.
        folder: Checkpoints, curves and the result.
        settings: Steps, learning rate, seed.
        metadata: Written into the dictionary's configuration.
        device: Where to train.
        progress: Called at every logged step with the curve so far and the number of steps in all.

    Returns:
        The dictionary's folder.

    Raises:
        NumericalError: The loss became NaN.
    """
    target = folder / "dictionary"
    for made in (target, *_checkpoints(folder)):
        if not is_whole(made):
            _remove(made)
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    position = _checkpointed_step(folder)
    stream = ActivationStream(
        activations, point, shards, batch_size=settings.batch_size, seed=settings.seed, position=position
    )
    trainer = _trainer(shape, settings, stream, metadata, device)
    if position:
        _load_checkpoint(trainer, folder)
    else:
        _prepare(trainer, activations, point, shards, settings)
    _train(trainer, stream, folder, settings, progress)
    return _finish(trainer, target)


def _trainer(
    shape: TrainingShape,
    settings: TrainSettings,
    stream: ActivationStream,
    metadata: dict[str, Any],
    device: str,
) -> SAETrainer[Any, Any]:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    steps = settings.visits // settings.batch_size
    config = SAETrainerConfig(
        total_training_samples=steps * settings.batch_size,
        train_batch_size_samples=settings.batch_size,
        lr=settings.learning_rate,
        lr_end=0.0,
        lr_warm_up_steps=min(200, steps // 5),
        lr_decay_steps=steps // 3,
        device=device,
        autocast=settings.autocast,
        dead_feature_window=min(1000, max(1, steps // 4)),
        logger=LoggingConfig(log_to_wandb=False),
    )
    return SAETrainer(
        cfg=config, sae=build_training_sae(shape, metadata, device=device), data_provider=stream
    )


def _prepare(
    trainer: SAETrainer[Any, Any],
    run: RunFolder,
    point: HookPoint,
    shards: list[int],
    settings: TrainSettings,
) -> None:
    """Scale to a mean norm of sqrt(d_in) and start the decoder's bias at the mean, from a stream of its own."""
    sample = ActivationStream(
        run, point, shards, batch_size=settings.batch_size, seed=settings.seed + 1, shards_per_group=2
    )
    rows = torch.cat([next(sample) for _ in range(_PREPARATION_BATCHES)])
    mean_norm = float(rows.norm(dim=1).mean())
    trainer.activation_scaler.scaling_factor = trainer.sae.cfg.d_in**0.5 / mean_norm
    mean = rows.mean(dim=0)
    with torch.no_grad():
        trainer.sae.b_dec.copy_(trainer.activation_scaler(mean[None])[0])


def _train(
    trainer: SAETrainer[Any, Any],
    stream: ActivationStream,
    folder: Path,
    settings: TrainSettings,
    progress: Callable[[CurvePoint, int], None] | None,
) -> None:
    steps = trainer.cfg.total_training_steps
    curve = [point for point in read_curves(folder) if point.step <= trainer.n_training_steps]
    while trainer.n_training_steps < steps:
        trainer.maybe_reset_sparsity()
        output = trainer.step(next(stream))
        trainer.n_training_steps += 1
        step = trainer.n_training_steps
        if step % _LOG_EVERY == 0 or step == steps:
            curve.append(_curve_point(trainer, output, step))
            if progress is not None:
                progress(curve[-1], steps)
        if step % settings.checkpoint_every == 0 and step < steps:
            _save_checkpoint(trainer, folder, curve)
    _write_curves(folder, curve)


def _curve_point(trainer: SAETrainer[Any, Any], output: Any, step: int) -> CurvePoint:
    with torch.no_grad():
        sae_in, sae_out = output.sae_in.double(), output.sae_out.double()
        unexplained = (sae_in - sae_out).square().sum()
        variance = (sae_in - sae_in.mean(dim=0)).square().sum()
        point = CurvePoint(
            step,
            float(output.loss),
            float((output.feature_acts > 0).sum(dim=-1).double().mean()),
            float(unexplained / variance),
            float(trainer.dead_neurons.float().mean()),
        )
    if not all(map(_finite, point)):
        raise NumericalError(
            f"Training diverged at step {step}: the loss is {point.loss}.", hint="Lower --learning-rate."
        )
    return point


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def _finish(trainer: SAETrainer[Any, Any], target: Path) -> Path:
    sae = trainer.sae
    if trainer.activation_scaler.scaling_factor is not None:
        sae.fold_activation_norm_scaling_factor(trainer.activation_scaler.scaling_factor)
    trainer.set_final_sae_metadata()
    sparsity = trainer.log_feature_sparsity
    with atomic_folder(target) as temporary:
        sae.save_inference_model(temporary)
        from safetensors.torch import save_file

        save_file({"sparsity": sparsity}, temporary / "sparsity.safetensors")
        seal_folder(temporary)
    return target


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{_CHECKPOINT}-*") if path.is_dir())


def _checkpointed_step(folder: Path) -> int:
    found = _checkpoints(folder)
    return int(found[-1].name.removeprefix(f"{_CHECKPOINT}-")) if found else 0


def _save_checkpoint(trainer: SAETrainer[Any, Any], folder: Path, curve: list[CurvePoint]) -> None:
    earlier = _checkpoints(folder)
    _write_curves(folder, curve)
    with atomic_folder(folder / f"{_CHECKPOINT}-{trainer.n_training_steps:08d}") as temporary:
        torch.save(trainer.sae.state_dict(), temporary / "weights.pt")
        torch.save(torch.get_rng_state(), temporary / "random.pt")
        trainer.save_trainer_state(temporary)
        seal_folder(temporary)
    for path in earlier:
        _remove(path)


def _load_checkpoint(trainer: SAETrainer[Any, Any], folder: Path) -> None:
    path = _checkpoints(folder)[-1]
    trainer.sae.load_state_dict(torch.load(path / "weights.pt", weights_only=True))
    trainer.load_trainer_state(path)
    torch.set_rng_state(torch.load(path / "random.pt", weights_only=True))


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _write_curves(folder: Path, curve: list[CurvePoint]) -> None:
    lines = "".join(json.dumps(point._asdict()) + "\n" for point in curve)
    write_text(
        folder / _CURVES, lines + json.dumps({_DIGEST: hashlib.sha256(lines.encode()).hexdigest()}) + "\n"
    )


def read_curves(folder: Path) -> list[CurvePoint]:
    """The logged steps of a training run.

    Raises:
        FormatError: The file is no longer what was written.
    """
    path = folder / _CURVES
    if not path.is_file():
        return []
    try:
        *lines, last = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        digest = json.loads(last or "{}").get(_DIGEST)
        if digest is None:  # of an older onesense
            lines.append(last)
        elif digest != hashlib.sha256("".join(lines).encode()).hexdigest():
            raise ValueError("its content does not match its own SHA-256")
        return [CurvePoint(**json.loads(line)) for line in lines if line.strip()]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(
            f"{path} is damaged: {error}.", hint=f"Delete the folder {folder} and run the command again."
        ) from error


def describe_settings(shape: TrainingShape, settings: TrainSettings) -> dict[str, Any]:
    """Shape and settings as JSON values, to be stored with the run."""
    return {"shape": asdict(shape), "settings": asdict(settings)}
