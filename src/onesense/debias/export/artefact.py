"""Load an export as a model: plain transformers or peft read its weights, and vectors are added as others add them."""

from __future__ import annotations

from pathlib import Path

from onesense.debias.export.control_vector import FILE_NAME, install_control_vectors, read_control_vectors
from onesense.debias.export.copies import copy_of, quiet_peft
from onesense.debias.export.kinds import ExportKind
from onesense.debias.export.neuronpedia_vector import install_vectors, read_vectors
from onesense.debias.export.steering_spec import FILE_NAME as STEERING_FILE
from onesense.debias.export.steering_spec import install_steering, read_steering
from onesense.errors import FormatError
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model


def load_artefact(
    folder: Path, kind: ExportKind, base: LanguageModel | None, *, dtype: str, device: str
) -> LanguageModel:
    """The exported model.

    Args:
        folder: The export's folder.
        kind: What it holds.
        base: The model that it was made from; needed for an adapter and for vectors, and left as it is.
        dtype: Number format of plain weights.
        device: Where plain weights go.

    Raises:
        FormatError: The files cannot be read, or there is no base where one is needed.
    """
    if kind.plain_weights:
        loaded = load_model(str(folder.resolve()), dtype=dtype, device=device)
        loaded.name = folder.name
        return loaded
    if base is None:
        raise FormatError(
            f"{folder} holds no whole model ({kind}).", hint="Give the model that it was made from (--model)."
        )
    copy = copy_of(base)
    copy.name = folder.name
    if kind is ExportKind.GGUF:
        install_control_vectors(copy, read_control_vectors(folder / FILE_NAME))
        return copy
    if kind is ExportKind.VLLM:
        install_steering(copy, read_steering(folder / STEERING_FILE, copy.d_model))
        return copy
    if kind is ExportKind.NEURONPEDIA:
        install_vectors(copy, read_vectors(folder))
        return copy
    return _adapted(copy, folder)


def _adapted(copy: LanguageModel, folder: Path) -> LanguageModel:
    from peft import PeftModel

    try:
        with quiet_peft():
            merged = PeftModel.from_pretrained(copy.hf, str(folder.resolve())).merge_and_unload()
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise FormatError(
            f"The adapter in {folder} could not be loaded: {first}", hint="Export it again."
        ) from error
    return LanguageModel.from_hf(merged, copy.tokenizer, copy.name)
