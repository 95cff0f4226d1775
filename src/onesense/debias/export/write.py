"""Put an artefact of each kind into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onesense.debias.export.control_vector import FILE_NAME, control_vectors, write_control_vectors
from onesense.debias.export.distillation import DistillationSettings, Distilled, distil
from onesense.debias.export.kinds import ExportKind
from onesense.debias.export.neuronpedia_vector import neuronpedia_vectors, write_vectors
from onesense.debias.export.projection import fold_projections
from onesense.debias.export.steering_spec import FILE_NAME as STEERING_FILE
from onesense.debias.export.steering_spec import steering_specs, write_steering
from onesense.debias.export.texts import ExportText
from onesense.engine.stages import Stages
from onesense.model.language_model import LanguageModel
from onesense.model.load import save_model
from onesense.steer.intervention import Intervention


@dataclass(frozen=True, slots=True)
class Work:
    """What an artefact is made from.

    Attributes:
        model: The model.
        interventions: The edits, ready to run.
        text: Ordinary text.
        prompts: Texts whose last position counts.
        settings: How a LoRA is fitted.
        label: What people read of it elsewhere.
        model_id: Neuronpedia's name of the model; None for its short name.
        stages: Told about progress.
    """

    model: LanguageModel
    interventions: Sequence[Intervention]
    text: ExportText
    prompts: ExportText
    settings: DistillationSettings
    stages: Stages
    label: str = "onesense"
    model_id: str | None = None


def write_artefact(kind: ExportKind, work: Work, folder: Path) -> Distilled | None:
    """Make the artefact and write its files; what the fit of a LoRA did, None for an exact artefact.

    Raises:
        IncompatibleError: The recipe is not of this kind.
        NumericalError: A LoRA could not be fitted.
        StorageError: The files could not be written.
    """
    if kind is ExportKind.PROJECTION:
        _save_plain(fold_projections(work.model, work.interventions), folder)
        return None
    if kind is ExportKind.GGUF:
        vectors = control_vectors(work.model, work.interventions)
        write_control_vectors(work.model, vectors, folder / FILE_NAME)
        return None
    if kind is ExportKind.VLLM:
        write_steering(steering_specs(work.model, work.interventions), folder / STEERING_FILE)
        return None
    if kind is ExportKind.NEURONPEDIA:
        bodies = neuronpedia_vectors(work.model, work.interventions, model_id=work.model_id, label=work.label)
        write_vectors(bodies, folder)
        return None
    distilled = distil(work.model, work.interventions, work.text, work.prompts, work.settings, work.stages)
    if kind is ExportKind.LORA:
        distilled.adapted.peft_config["default"].base_model_name_or_path = work.model.name
        # Embeddings are never adapted; looking whether they are would ask the hub for the base.
        distilled.adapted.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    else:
        merged = distilled.adapted.merge_and_unload()
        _save_plain(LanguageModel.from_hf(merged, work.model.tokenizer, work.model.name), folder)
    return distilled


def _save_plain(model: LanguageModel, folder: Path) -> None:
    """``save_model`` makes a folder of its own; its files belong beside the manifest."""
    inner = save_model(model, folder / "model")
    for path in sorted(inner.iterdir()):
        path.rename(folder / path.name)
    inner.rmdir()
