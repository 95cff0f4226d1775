"""A recipe of constant directions as a GGUF control vector, which llama.cpp adds to the output of blocks.

llama.cpp reads one-dimensional float32 tensors ``direction.<k>`` and adds each to the output of block k, from 0,
at every position of prompt and text; it rejects k = 0. Importers elsewhere want ``controlvector.model_hint``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.debias.export.constant import adding, constant_of, install, why_not_constant
from onesense.errors import FormatError, IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.steer.intervention import Intervention

FILE_NAME = "control-vector.gguf"
_PREFIX = "direction."
_HINT = "Export it as a distilled LoRA instead (--how merged or --how lora)."


def why_no_control_vector(model: LanguageModel, interventions: Sequence[Intervention]) -> str | None:
    """The reason why the edits are no control vector; None where they are one."""
    if not interventions:
        return "there is no edit"
    for one in interventions:
        if one.point.suffix not in ("hook_resid_pre", "hook_resid_post"):
            return f"{one.point} is not the output of a block"
        if _block(one.point) < 1:
            return f"{one.point} is before block 1, and llama.cpp rejects direction.0"
        reason = why_not_constant(model, one, "llama.cpp adds the vector")
        if reason is not None:
            return reason
    return None


def control_vectors(model: LanguageModel, interventions: Sequence[Intervention]) -> dict[int, Tensor]:
    """What is added to the output of each block, float32 [d_model], by the block's index.

    Raises:
        IncompatibleError: The edits are not constant directions at the outputs of blocks.
    """
    reason = why_no_control_vector(model, interventions)
    if reason is not None:
        raise IncompatibleError(f"The recipe is no control vector: {reason}.", hint=_HINT)
    vectors: dict[int, Tensor] = {}
    for one in interventions:
        block = _block(one.point)
        added = constant_of(model, one)
        vectors[block] = vectors[block] + added if block in vectors else added
    return dict(sorted(vectors.items()))


def write_control_vectors(model: LanguageModel, vectors: Mapping[int, Tensor], path: Path) -> None:
    """Write a control vector for a model as GGUF."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", model.family)
    writer.add_uint32("controlvector.layer_count", model.n_layers)
    for block, vector in vectors.items():
        writer.add_tensor(f"{_PREFIX}{block}", vector.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_control_vectors(path: Path) -> dict[int, Tensor]:
    """Read the directions of a control vector, by the index of the block to whose output they are added.

    Raises:
        FormatError: It is not a control vector.
    """
    from gguf import GGUFReader

    try:
        # the reader maps the file; the copies outlive it
        tensors: dict[str, NDArray[np.float32]] = {
            tensor.name: np.array(tensor.data, dtype=np.float32) for tensor in GGUFReader(path).tensors
        }
        return {
            int(name.removeprefix(_PREFIX)): torch.from_numpy(data)
            for name, data in tensors.items()
            if name.startswith(_PREFIX)
        }
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise FormatError(
            f"{path} is not a GGUF control vector: {error}.", hint="Export it again."
        ) from error


def install_control_vectors(model: LanguageModel, vectors: Mapping[int, Tensor]) -> None:
    """Add the vectors to the outputs of a model's blocks for good, as llama.cpp does; for a copy only."""
    for block, vector in vectors.items():
        install(model, HookPoint(block, "hook_resid_post"), adding(vector))


def _block(point: HookPoint) -> int:
    return point.layer if point.suffix == "hook_resid_post" else point.layer - 1
