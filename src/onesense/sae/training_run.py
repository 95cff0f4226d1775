"""From a text to finished dictionaries: harvest once, train one for each hook point, measure, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import ActivationStream, HarvestSettings, Progress, harvest
from onesense.sae.curves import draw_curves
from onesense.sae.dictionary import Dictionary
from onesense.sae.evaluate import CrossEntropy, cross_entropy
from onesense.sae.load import load_dictionary
from onesense.sae.metrics import ReconstructionMetrics
from onesense.sae.train import CurvePoint, TrainSettings, read_curves, train_dictionary
from onesense.sae.training_classes import TrainingShape
from onesense.sae.write import StorageDtype, write_saelens
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document

# Every so many shards one is kept for measuring.
_HELD_OUT_EVERY = 40


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training run makes.

    Attributes:
        points: Hook points, one dictionary for each.
        architecture: See ``TrainingShape``.
        d_sae: Features of each dictionary.
        k: Wanted L0.
        harvest: How activations are gathered.
        train: Steps, learning rate, seed.
        storage_dtype: Number format of the written weights.
        l0_coefficient: JumpReLU only.
    """

    points: tuple[HookPoint, ...]
    architecture: str
    d_sae: int
    k: int
    harvest: HarvestSettings
    train: TrainSettings
    storage_dtype: StorageDtype = "float32"
    l0_coefficient: float = 1.0


class TrainedDictionary(NamedTuple):
    """One finished dictionary and what was measured on text that it was not trained on.

    Attributes:
        point: Where it belongs.
        folder: SAELens folder.
        l0: Mean number of active latents.
        fvu: Fraction of variance unexplained, about the mean.
        dead_share: Share of features that never fired on the held-out activations.
        cross_entropy: With and without its reconstruction.
        curves: Picture of the training curves.
    """

    point: HookPoint
    folder: Path
    l0: float
    fvu: float
    dead_share: float
    cross_entropy: CrossEntropy
    curves: Path


def train_dictionaries(
    model: LanguageModel,
    documents: Iterable[Document],
    evaluation_documents: Callable[[], Iterable[Document]],
    run: RunFolder,
    plan: TrainingPlan,
    *,
    harvest_progress: Progress | None = None,
    train_progress: Callable[[HookPoint, CurvePoint, int], None] | None = None,
) -> list[TrainedDictionary]:
    """Train one dictionary for each hook point of the plan; resumes where an earlier call stopped.

    Args:
        model: The model.
        documents: The text to train on.
        evaluation_documents: Opens the text that cross-entropy is measured on.
        run: Where everything goes.
        plan: What to make.
        harvest_progress: Called with tokens done and wanted.
        train_progress: Called with the hook point, the curve's last point and the number of steps.

    Raises:
        OnesenseError: See ``harvest`` and ``train_dictionary``.
    """
    for point in plan.points:
        model.resolve(point)
    shards = harvest(model, plan.points, documents, run, plan.harvest, harvest_progress)
    held_out = list(range(0, shards, _HELD_OUT_EVERY))
    training = [shard for shard in range(shards) if shard not in held_out] or held_out
    finished = []
    for point in plan.points:
        shape = TrainingShape(
            plan.architecture, model.resolve(point).width, plan.d_sae, plan.k, plan.l0_coefficient
        )
        work = run.path / "training" / point.name
        trained = train_dictionary(
            shape,
            run,
            point,
            training,
            work,
            plan.train,
            metadata=_metadata(model, point, plan),
            device=str(model.device),
            progress=None if train_progress is None else _for_point(train_progress, point),
        )
        finished.append(_measured(model, run, point, held_out, trained, plan, evaluation_documents()))
    return finished


def _for_point(
    progress: Callable[[HookPoint, CurvePoint, int], None], point: HookPoint
) -> Callable[[CurvePoint, int], None]:
    return lambda curve, steps: progress(point, curve, steps)


def _metadata(model: LanguageModel, point: HookPoint, plan: TrainingPlan) -> dict[str, object]:
    return {
        "model_name": model.name,
        "hook_name": point.name,
        "prepend_bos": model.bos_id is not None,
        "context_size": plan.harvest.context_size,
        "exclude_special_tokens": True,
    }


def _measured(
    model: LanguageModel,
    run: RunFolder,
    point: HookPoint,
    held_out: Sequence[int],
    trained: Path,
    plan: TrainingPlan,
    documents: Iterable[Document],
) -> TrainedDictionary:
    dictionary = load_dictionary(path=trained)
    target = run.path / "dictionaries" / point.name
    if not target.is_dir():
        write_saelens(dictionary, target, storage_dtype=plan.storage_dtype)
    stored = load_dictionary(path=target)
    metrics = held_out_metrics(run, point, held_out, stored)
    losses = cross_entropy(model, stored, documents, context_size=plan.harvest.context_size)
    picture = draw_curves(read_curves(trained.parent), run.path / f"curves-{point.name}.png", point.name)
    return TrainedDictionary(point, target, metrics.l0, metrics.fvu, metrics.dead_share, losses, picture)


def held_out_metrics(
    run: RunFolder, point: HookPoint, shards: Sequence[int], dictionary: Dictionary, *, rows: int = 32_768
) -> ReconstructionMetrics:
    """L0, FVU and dead share on harvested activations that were not trained on."""
    metrics = ReconstructionMetrics(dictionary.d_sae)
    stream = ActivationStream(run, point, shards, batch_size=1024, seed=0, shards_per_group=1)
    with torch.no_grad():
        for _ in range(max(1, rows // 1024)):
            batch = next(stream).to(dictionary.device)
            latents = dictionary.encode(batch)
            metrics.update(dictionary.target(batch), dictionary.decode(latents, batch), latents)
    return metrics
