"""A recipe as interp-engine's steering spec, by which it steers vLLM (and its own eager backend).

The file is JSON with one key, ``steering``: the list of specs that the body of a request to interp-engine's server
holds, and that its ``SteeringWire`` reads. Each spec names a point and, by layer, operations that are applied in
order at every position. Constant directions become ``additive``; projections become ``ablate`` or ``orthogonal``
along an orthonormal basis of what is projected out, so that their order does not matter there either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onesense.debias.export.constant import install, why_not_everywhere
from onesense.errors import FormatError, IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Operation
from onesense.steer.intervention import Intervention
from onesense.steer.where import Where
from onesense.store.atomic import read_json, write_text

FILE_NAME = "vllm-steering.json"
_HINT = "Export it as a distilled LoRA instead (--how merged or --how lora)."
_SMALL = 1e-6


def why_no_steering_spec(model: LanguageModel, interventions: Sequence[Intervention]) -> str | None:
    """The reason why the edits are no steering spec of interp-engine's vLLM backend; None where they are one."""
    if not interventions:
        return "there is no edit"
    for one in interventions:
        reason = _why_not_there(model, one.point) or _why_not_expressible(model, one)
        if reason is not None:
            return reason
    return None


def steering_specs(model: LanguageModel, interventions: Sequence[Intervention]) -> list[dict[str, Any]]:
    """The specs as JSON values, one for each group of edits, in their order.

    Raises:
        IncompatibleError: The edits cannot be expressed; the message says why.
    """
    reason = why_no_steering_spec(model, interventions)
    if reason is not None:
        raise IncompatibleError(f"The recipe is no steering spec: {reason}.", hint=_HINT)
    specs = []
    for one in interventions:
        name, layer = model.address(one.point)
        specs.append({"point": name, "layers": {str(layer): [*_additions(one), *_projections(one)]}})
    return specs


def write_steering(specs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write specs as the part of a request's body that steers.

    Raises:
        StorageError: The file cannot be written.
    """
    write_text(path, json.dumps({"steering": list(specs)}, allow_nan=False) + "\n")


def read_steering(path: Path, d_model: int) -> list[Any]:
    """Read specs back as interp-engine's own ``SteeringSpec`` objects.

    Raises:
        FormatError: It is not a file of steering specs, or for another width.
    """
    from interp_engine.server.schemas import SteeringWire

    document = read_json(path)
    try:
        return [SteeringWire.model_validate(spec).to_spec(d_model) for spec in document["steering"]]
    except (KeyError, TypeError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise FormatError(f"{path} holds no steering specs: {first}", hint="Export it again.") from error


def install_steering(model: LanguageModel, specs: Sequence[Any]) -> None:
    """Steer a model for good by interp-engine's own arithmetic; for a copy only."""
    from interp_engine.mappers import point_to_tlens_hook
    from interp_engine.steer import SteerSpec, steer_delta, steering_spec_to_eager_specs

    def changing(spec: SteerSpec) -> Any:
        def change(hidden: Tensor) -> Tensor:
            changed: Tensor = hidden + steer_delta(spec, hidden, spec.vector.to(hidden))
            return changed

        return change

    for spec in steering_spec_to_eager_specs(specs):
        point = HookPoint.parse(point_to_tlens_hook(spec.point, spec.layer))
        install(model, point, changing(spec))


def _why_not_there(model: LanguageModel, point: HookPoint) -> str | None:
    from interp_engine.vllm_capture import STEERABLE_POINTS

    width = model.resolve(point).width
    if width != model.d_model:
        return f"{point} is {width} wide, and steering vectors are {model.d_model} wide"
    name, _ = model.address(point)
    if name not in STEERABLE_POINTS:
        return f"interp-engine's vLLM backend cannot steer {point} ({name})"
    return None


def _why_not_expressible(model: LanguageModel, one: Intervention) -> str | None:
    for edit in one.edits:
        if not edit.operation.on_direction:
            return (
                f"feature {edit.feature} is edited by {edit.operation}, which looks at the latent, and a steering spec "
                "knows vectors only"
            )
        reason = why_not_everywhere(model, edit, "the spec steers")
        if reason is not None:
            return reason
    for places in _projected(one):
        shares = {float(one.amounts[place]) for place in places}
        if len(shares) > 1 and not _orthogonal(one.directions()[places]):
            return (
                f"{len(places)} directions at {one.point} are projected out jointly by different shares, and the spec "
                "takes one after the other"
            )
    return None


def _projected(one: Intervention) -> list[list[int]]:
    """The projections, by place among the edits; those of one list are made jointly."""
    jointly: dict[Where, list[int]] = {}
    for place, edit in enumerate(one.edits):
        if edit.operation is Operation.PROJECT_OUT:
            jointly.setdefault(edit.where, []).append(place)
    return list(jointly.values())


def _orthogonal(rows: Tensor) -> bool:
    unit = rows / rows.norm(dim=1, keepdim=True)
    cosines = unit @ unit.T - torch.eye(len(rows), device=rows.device)
    return bool(cosines.abs().max() < _SMALL)


def _additions(one: Intervention) -> list[dict[str, Any]]:
    rows = one.directions()
    return [
        {"method": "additive", "vector": rows[place].tolist(), "scale": float(one.amounts[place])}
        for place, edit in enumerate(one.edits)
        if edit.operation is Operation.DIRECTION_ADD
    ]


def _projections(one: Intervention) -> list[dict[str, Any]]:
    operations = []
    for places in _projected(one):
        rows = one.directions()[places].double()
        shares = [float(one.amounts[place]) for place in places]
        if len(set(shares)) == 1:
            _, values, basis = torch.linalg.svd(rows, full_matrices=False)
            # A direction that is given twice spans no more than once.
            rows = basis[values > values[0] * _SMALL]
        operations += [_along(row, share) for row, share in zip(rows, shares, strict=False)]
    return operations


def _along(row: Tensor, share: float) -> dict[str, Any]:
    vector = row.float().tolist()
    if share == 1.0:
        return {"method": "ablate", "vector": vector}
    return {"method": "orthogonal", "vector": vector, "coeff": 1.0 - share}
