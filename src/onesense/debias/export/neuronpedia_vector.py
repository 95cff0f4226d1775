"""Constant directions as vectors for Neuronpedia: each file is the body of one upload.

Fields as its address ``POST /api/vector/new`` and its Python library take them: ``modelId``, ``layerNumber``,
``hookType``, ``vector``, ``vectorDefaultSteerStrength``, ``vectorLabel``. The only ``hookType`` that it takes is
``hook_resid_pre``, a vector has at most 24,576 entries and a strength is at most 300 either way. Uploading needs an
account there and was not tried; nothing is sent from here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onesense.debias.export.constant import adding, constant_of, install, why_not_constant
from onesense.errors import ConfigurationError, FormatError, IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.names import short_name
from onesense.steer.intervention import Intervention
from onesense.store.atomic import read_json, write_text

PATTERN = "neuronpedia-vector-*.json"
_HOOK = "hook_resid_pre"
_MOST_STRENGTH = 300.0
_MOST_ENTRIES = 24_576
_LABEL = 200
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def require_id(name: str) -> str:
    """An id as Neuronpedia's addresses have them.

    Raises:
        ConfigurationError: It has characters that they do not have.
    """
    if not _ID.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no id of Neuronpedia.",
            hint="Give ids as in its addresses: --model-id gpt2-small --source-id 8-res-jb.",
        )
    return name


def why_no_vector(model: LanguageModel, interventions: Sequence[Intervention]) -> str | None:
    """The reason why the edits are no vectors for Neuronpedia; None where they are."""
    if not interventions:
        return "there is no edit"
    if model.d_model > _MOST_ENTRIES:
        return f"the stream is {model.d_model} wide, and a vector has at most {_MOST_ENTRIES} entries"
    for one in interventions:
        if one.point.suffix not in ("hook_resid_pre", "hook_resid_post"):
            return f"{one.point} is neither before nor after a block, and Neuronpedia adds to {_HOOK} only"
        if _layer(one.point) >= model.n_layers:
            return f"{one.point} is after the last block, and Neuronpedia adds to {_HOOK} only"
        reason = why_not_constant(model, one, "the vector is added")
        if reason is not None:
            return reason
    if not any(bool(constant.any()) for constant in _constants(model, interventions).values()):
        return "what it adds is zero"
    return None


def neuronpedia_vectors(
    model: LanguageModel, interventions: Sequence[Intervention], *, model_id: str | None, label: str
) -> list[dict[str, Any]]:
    """The body of an upload for each layer.

    ``vectorDefaultSteerStrength`` times ``vector`` is what the recipe adds: the vector has norm 1, or more where the
    strength would be above the largest that Neuronpedia takes.

    Args:
        model: The model.
        interventions: The edits, ready to run.
        model_id: Neuronpedia's name of the model; None for the model's short name, which it may not know.
        label: What people read there.

    Raises:
        IncompatibleError: The edits are not constant directions before blocks.
        ConfigurationError: ``model_id`` is no id.
    """
    reason = why_no_vector(model, interventions)
    if reason is not None:
        raise IncompatibleError(
            f"The recipe is no vector for Neuronpedia: {reason}.",
            hint="Export it as a distilled LoRA instead (--how merged or --how lora).",
        )
    name = require_id(short_name(model.name) if model_id is None else model_id)
    bodies = []
    for layer, constant in _constants(model, interventions).items():
        strength = min(float(constant.norm()), _MOST_STRENGTH)
        if strength == 0:
            continue
        bodies.append(
            {
                "modelId": name,
                "layerNumber": layer,
                "hookType": _HOOK,
                "vector": (constant / strength).tolist(),
                "vectorDefaultSteerStrength": strength,
                "vectorLabel": label[:_LABEL],
            }
        )
    return bodies


def write_vectors(bodies: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write each body into a file of its own.

    Raises:
        StorageError: A file cannot be written.
    """
    for body in bodies:
        path = folder / PATTERN.replace("*", f"{body['layerNumber']:03d}")
        write_text(path, json.dumps(body, ensure_ascii=False, allow_nan=False) + "\n")


def read_vectors(folder: Path) -> dict[int, Tensor]:
    """What the vectors of a folder add before blocks, strength times vector, float32 [d_model], by layer.

    Raises:
        FormatError: A file is not the body of an upload, or there is none.
    """
    found: dict[int, Tensor] = {}
    for path in sorted(folder.glob(PATTERN)):
        body = read_json(path)
        try:
            strength = float(body["vectorDefaultSteerStrength"])
            vector = strength * torch.tensor(body["vector"], dtype=torch.float32)
            layer = int(body["layerNumber"])
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{path} is no vector for Neuronpedia: {error}.", hint="Export it again."
            ) from error
        if vector.ndim != 1 or not math.isfinite(float(vector.sum())) or body.get("hookType") != _HOOK:
            raise FormatError(f"{path} is no vector for Neuronpedia.", hint="Export it again.")
        found[layer] = vector
    if not found:
        raise FormatError(f"{folder} holds no vector for Neuronpedia.", hint="Export it again.")
    return found


def install_vectors(model: LanguageModel, vectors: Mapping[int, Tensor]) -> None:
    """Add the vectors before a model's blocks for good, as Neuronpedia does; for a copy only."""
    for layer, vector in vectors.items():
        install(model, HookPoint(layer, _HOOK), adding(vector))


def _layer(point: HookPoint) -> int:
    return point.layer if point.suffix == _HOOK else point.layer + 1


def _constants(model: LanguageModel, interventions: Sequence[Intervention]) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}
    for one in interventions:
        layer, constant = _layer(one.point), constant_of(model, one)
        found[layer] = found[layer] + constant if layer in found else constant
    return dict(sorted(found.items()))
