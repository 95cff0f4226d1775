"""Check the parts that a reader found and build the dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from onesense.errors import FormatError, IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.sae.dictionary import Architecture, Dictionary, Normalization, Origin, Preparation
from onesense.sae.formats.parts import Parts
from onesense.sae.formats.saelens import upgrade_config

_ARCHITECTURES = {
    "standard": Architecture.RELU,
    "relu": Architecture.RELU,
    "jumprelu": Architecture.JUMPRELU,
    "batchtopk": Architecture.JUMPRELU,
    "matryoshka_batchtopk": Architecture.JUMPRELU,
    "topk": Architecture.TOPK,
    "gated": Architecture.GATED,
}
_TRANSCODER = "it reads one place of the model and writes another"
_REFUSED = {
    "transcoder": _TRANSCODER,
    "skip_transcoder": _TRANSCODER,
    "jumprelu_transcoder": _TRANSCODER,
    "jumprelu_skip_transcoder": _TRANSCODER,
    "clt": "it writes many layers of the model",
    "crosscoder": "it reads many layers of the model",
    "temporal": "its latents depend on earlier tokens",
    "matching_pursuit": "its latents are found by a search, not by an encoder",
    "abstopk": "its latents can be negative",
}
_OWN_FIELDS = (
    "model_name",
    "hook_name",
    "hook_head_index",
    "prepend_bos",
    "context_size",
    "sae_lens_version",
)
_LARGEST_WIDTH = 2**31


def assemble(
    parts: Parts,
    origin: Origin,
    *,
    overrides: Mapping[str, Any] | None = None,
    norm_factor: float | None = None,
) -> Dictionary:
    """Build a dictionary.

    Args:
        parts: What was read.
        origin: Where from; completed from the configuration.
        overrides: Entries that a registry lays over the configuration.
        norm_factor: The registry's factor of `expected_average_only_in`.

    Raises:
        IncompatibleError: An architecture or preparation that is not supported; shapes that disagree.
        FormatError: Something is missing, or the configuration contradicts the tensors.
        HookPointError: Its hook point does not map.
        NumericalError: NaN or infinity in a tensor.
    """
    config = upgrade_config({**parts.config, **(overrides or {})})
    metadata = config["metadata"]
    name = str(config.get("architecture", "standard"))
    architecture = _architecture(name, config, parts.tensors)
    tensors = _tensors(name, architecture, config, parts.tensors)
    _check_widths(config, tensors)
    if metadata.get("hook_head_index") is not None:
        raise IncompatibleError(
            f"{origin.label} reads a single attention head, which onesense does not support.",
            hint="Choose a dictionary of the residual stream.",
        )
    return Dictionary(
        architecture=architecture,
        hook_point=_hook_point(metadata, origin),
        **tensors,
        k=_whole_number(config, "k") if architecture is Architecture.TOPK else None,
        rescale_by_decoder_norm=architecture is Architecture.TOPK
        and bool(config.get("rescale_acts_by_decoder_norm", False)),
        preparation=_preparation(config, norm_factor if norm_factor is not None else parts.norm_factor),
        origin=_origin(origin, metadata, parts.sparsity),
    )


def _architecture(name: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Architecture:
    metadata = config["metadata"]
    moved = metadata.get("hook_name_out") not in (None, metadata.get("hook_name"))
    if name in _REFUSED or "W_skip" in tensors or metadata.get("d_out") is not None or moved:
        what = name if name in _REFUSED else "transcoder"
        raise IncompatibleError(
            f"Dictionaries of the kind `{what}` are not supported: {_REFUSED[what]}.",
            hint="Choose a sparse autoencoder: relu, jumprelu, topk, batchtopk or gated.",
        )
    if name not in _ARCHITECTURES:
        raise FormatError(
            f"`{name}` is not an architecture that onesense knows.",
            hint=f"Known: {', '.join(_ARCHITECTURES)}.",
        )
    activation = config.get("activation_fn") or "relu"
    if activation not in ("relu", "topk"):
        raise IncompatibleError(
            f"The activation function `{activation}` is not supported.",
            hint="Choose a relu or topk dictionary.",
        )
    if (config.get("activation_fn_kwargs") or {}).get("signed"):
        raise IncompatibleError(
            f"Dictionaries of the kind `abstopk` are not supported: {_REFUSED['abstopk']}.",
            hint="Choose a dictionary with latents of one sign.",
        )
    return _ARCHITECTURES[name]


def _tensors(
    name: str, architecture: Architecture, config: Mapping[str, Any], found: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors that the architecture needs, by our names, at least in float32."""
    found = dict(found)
    if "log_threshold" in found:
        found["threshold"] = found.pop("log_threshold").exp()
    if "topk_threshold" in found:
        found["threshold"] = found.pop("topk_threshold")
    gated = architecture is Architecture.GATED
    wanted = {"W_enc": "W_enc", "b_enc": "b_gate" if gated else "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
    if gated:
        wanted |= {"b_mag": "b_mag", "r_mag": "r_mag"}
    if architecture is Architecture.JUMPRELU:
        wanted["threshold"] = "threshold"
    missing = [stored for stored in wanted.values() if stored not in found]
    if missing:
        raise FormatError(
            f"The weights of this {name} dictionary lack {', '.join(missing)}; they hold "
            f"{', '.join(sorted(found))}.",
            hint="The file is of another architecture than its configuration says, or a tensor was lost.",
        )
    tensors = {ours: _at_least_float32(stored, found[stored]) for ours, stored in wanted.items()}
    if "threshold" in tensors and tensors["threshold"].ndim == 0:
        tensors["threshold"] = tensors["threshold"].expand(tensors["b_enc"].shape).clone()
    _apply_scaling_factor(config, found, tensors)
    if name in ("batchtopk", "matryoshka_batchtopk") and config.get("rescale_acts_by_decoder_norm"):
        # the trainer's threshold is in units of latent times decoder norm
        norms = tensors["W_dec"].norm(dim=-1).clamp_min(1e-8)
        tensors["W_enc"], tensors["b_enc"] = tensors["W_enc"] * norms, tensors["b_enc"] * norms
        tensors["W_dec"] = tensors["W_dec"] / norms.unsqueeze(-1)
    return tensors


def _apply_scaling_factor(
    config: Mapping[str, Any], found: Mapping[str, Tensor], tensors: dict[str, Tensor]
) -> None:
    """Old releases may scale latents once more before they are decoded: part of the decoder from here on."""
    scale = found.get("finetuning_scaling_factor", found.get("scaling_factor"))
    if scale is None or bool(torch.allclose(scale.float(), torch.ones_like(scale, dtype=torch.float32))):
        return
    if not config.get("finetuning_scaling_factor"):
        raise FormatError(
            "The weights hold a scaling factor that the configuration says is not used.",
            hint="Set finetuning_scaling_factor in cfg.json to what the maker documents.",
        )
    tensors["W_dec"] = tensors["W_dec"] * scale.float().reshape(-1, 1)


def _at_least_float32(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        raise FormatError(f"{name} holds {tensor.dtype}, not real numbers.", hint="Check the file.")
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _check_widths(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    shape = tuple(tensors["W_enc"].shape)
    for place, key in enumerate(("d_in", "d_sae")):
        if config.get(key) is None:
            continue  # the tensors say it as well
        stated = _whole_number(config, key)
        if len(shape) != 2 or stated != shape[place]:
            raise IncompatibleError(
                f"The configuration says {key} = {stated}, but W_enc has shape {shape} ([d_in, d_sae]).",
                hint="Configuration and weights are of two dictionaries.",
            )


def _whole_number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_WIDTH:
        raise FormatError(
            f"The configuration's `{key}` is {value!r}; it must be a whole number from 1.",
            hint="Mend cfg.json.",
        )
    return value


def _preparation(config: Mapping[str, Any], norm_factor: float | None) -> Preparation:
    stated = config.get("normalize_activations") or "none"
    if stated not in tuple(Normalization):
        raise IncompatibleError(
            f"The input normalisation `{stated}` is not supported.",
            hint="If this is a training checkpoint, use the finished dictionary: there it is folded in.",
        )
    normalization = Normalization(stated)
    if normalization is not Normalization.EXPECTED_AVERAGE:
        norm_factor = None
    elif norm_factor is not None and not 0 < norm_factor < float("inf"):
        raise FormatError(
            f"The normalisation factor is {norm_factor}; it must be above 0.", hint="Check the file."
        )
    kwargs = config["metadata"].get("model_from_pretrained_kwargs") or {}
    return Preparation(
        center=bool(kwargs.get("center_writing_weights", False)),
        normalization=normalization,
        norm_factor=norm_factor,
        subtract_b_dec=bool(config.get("apply_b_dec_to_input", True)),
        flatten_heads=config.get("reshape_activations") == "hook_z",
    )


def _hook_point(metadata: Mapping[str, Any], origin: Origin) -> HookPoint:
    name = metadata.get("hook_name")
    if not name:
        raise FormatError(
            f"The configuration of {origin.label} does not say which hook point it reads.",
            hint="Add hook_name, such as blocks.8.hook_resid_pre, to cfg.json.",
        )
    return HookPoint.parse(str(name))


def _origin(origin: Origin, metadata: Mapping[str, Any], sparsity: Tensor | None) -> Origin:
    context = metadata.get("context_size")
    model_name = metadata.get("model_name")
    recorded_l0 = metadata.get("expected_l0", metadata.get("l0"))
    return replace(
        origin,
        model_name=origin.model_name or (None if model_name is None else str(model_name)),
        prepend_bos=bool(metadata.get("prepend_bos", True)),
        context_size=context if isinstance(context, int) and context > 0 else None,
        expected_l0=origin.expected_l0 or _positive(recorded_l0),
        expected_fvu=origin.expected_fvu or _positive(metadata.get("expected_fvu")),
        sparsity=None if sparsity is None else sparsity.float(),
        extra={key: value for key, value in metadata.items() if key not in _OWN_FIELDS},
    )


def _positive(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if 0 < number < float("inf") else None
