"""From a text to finished dictionaries: harvest once, train one for each hook point, measure, write."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from onesense.engine.stages import Silent, Stages
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import ActivationStream, HarvestSettings, harvest
from onesense.sae.curves import draw_curves
from onesense.sae.dictionary import Dictionary
from onesense.sae.evaluate import CrossEntropy, cross_entropy
from onesense.sae.load import load_dictionary
from onesense.sae.metrics import ReconstructionMetrics
from onesense.sae.train import CurvePoint, TrainSettings, read_curves, train_dictionary
from onesense.sae.training_classes import TrainingShape
from onesense.sae.write import StorageDtype, write_saelens
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.store.seal import digests, keep_json, kept_json
from onesense.text.corpus import Document, read_documents, text_identity

# Every so many shards one is kept for measuring.
_HELD_OUT_EVERY = 40
# Digests of the files of the dictionary that was written.
_WRITTEN = "written.json"


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


def run_training(
    model: LanguageModel,
    documents: Callable[[], Iterable[Document]],
    folder: Path | str,
    plan: TrainingPlan,
    *,
    text: str | None = None,
    stages: Stages | None = None,
) -> list[TrainedDictionary]:
    """Train one dictionary for each hook point of the plan; resumes where an earlier call stopped.

    Args:
        model: The model.
        documents: Opens the text to train on; every 40th shard of it is kept for measuring. Cross-entropy is
            measured on the packaged sample, which nothing is trained on.
        folder: Where everything goes.
        plan: What to make.
        text: Name of the text's source, for the run's provenance.
        stages: Told about progress.

    Raises:
        IncompatibleError: The folder holds another run.
        OnesenseError: See ``harvest`` and ``train_dictionary``.
    """
    stages = stages or Silent()
    for point in plan.points:
        TrainingShape(plan.architecture, model.resolve(point).width, plan.d_sae, plan.k, plan.l0_coefficient)
    run = RunFolder.create_or_resume(
        folder,
        command="sae train",
        configuration={**asdict(plan), "points": [point.name for point in plan.points], "model": model.name},
        provenance=provenance(
            model={"fingerprint": model.fingerprint}, text=text_identity(text), seeds=plan.train.seed
        ),
    )
    with run.lock():
        with stages.stage(f"Activations at {len(plan.points)} hook points", "tokens") as progress:
            shards = harvest(model, plan.points, documents(), run, plan.harvest, progress)
        return [_train_one(model, run, point, shards, plan, stages) for point in plan.points]


def _train_one(
    model: LanguageModel, run: RunFolder, point: HookPoint, shards: int, plan: TrainingPlan, stages: Stages
) -> TrainedDictionary:
    held_out = list(range(0, shards, _HELD_OUT_EVERY))
    training = [shard for shard in range(shards) if shard not in held_out] or held_out
    width = model.resolve(point).width
    with stages.stage(f"Training {point}", "visits") as progress:

        def tell(curve: CurvePoint, steps: int) -> None:
            progress(curve.step * plan.train.batch_size, steps * plan.train.batch_size)

        trained = train_dictionary(
            TrainingShape(plan.architecture, width, plan.d_sae, plan.k, plan.l0_coefficient),
            run,
            point,
            training,
            run.path / "training" / point.name,
            plan.train,
            metadata=_metadata(model, point, plan),
            device=str(model.device),
            progress=tell,
        )
    with stages.stage(f"Measuring {point}", "tokens"):
        return _measured(model, run, point, held_out, trained, plan, read_documents())


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
    metrics = held_out_metrics(run, point, held_out, dictionary)
    target = run.path / "dictionaries" / point.name
    written = trained.parent / _WRITTEN
    if target.is_dir() and written.exists() and kept_json(written) != digests(target):
        shutil.rmtree(target)  # damaged: all that it was made from is here
    if not target.is_dir():
        measured = {"expected_l0": metrics.l0, "expected_fvu": metrics.fvu}
        write_saelens(dictionary, target, storage_dtype=plan.storage_dtype, metadata=measured)
    keep_json(written, digests(target))
    stored = load_dictionary(path=target)
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
