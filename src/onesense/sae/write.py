"""Write a dictionary as a SAELens v6 folder, which `sae_lens.SAE.load_from_disk` reads back bit-equal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from onesense.errors import NumericalError
from onesense.sae.dictionary import Architecture, Dictionary
from onesense.sae.large_tensors import row_parts
from onesense.store.atomic import atomic_folder, write_json, write_tensors

# The version of the folder's layout: readers upgrade whatever is older than 6.0.0 or says nothing.
LAYOUT_VERSION = "6.0.0"
CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
SPARSITY_FILE = "sparsity.safetensors"

_SAELENS_NAMES = {
    Architecture.RELU: "standard",
    Architecture.JUMPRELU: "jumprelu",
    Architecture.TOPK: "topk",
    Architecture.GATED: "gated",
}

StorageDtype = Literal["float32", "float16", "bfloat16", "float64"]


def write_saelens(
    dictionary: Dictionary,
    folder: Path | str,
    *,
    storage_dtype: StorageDtype = "float32",
    metadata: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> Path:
    """Write `cfg.json`, `sae_weights.safetensors` and, where known, `sparsity.safetensors`.

    A factor of `expected_average_only_in` is folded into the weights first: no reader of such a folder would
    apply it. With a 16-bit `storage_dtype` the configuration still asks readers to compute in float32.

    Args:
        dictionary: What to write.
        folder: Where; it appears whole or not at all.
        storage_dtype: Number format on disk.
        metadata: Further entries for the configuration's metadata.
        beside: Further JSON files of the folder, by name.

    Returns:
        The folder.

    Raises:
        NumericalError: A value does not fit the storage format.
        ConfigurationError: The folder exists and is not empty.
        StorageError: It cannot be written.
    """
    folder = Path(folder)
    dictionary = dictionary.fold_norm_factor()
    stored_as: torch.dtype = getattr(torch, storage_dtype)
    tensors = {
        _stored_name(name, dictionary.architecture): tensor.to("cpu", stored_as).contiguous()
        for name, tensor in dictionary.tensors().items()
    }
    for name, tensor in tensors.items():
        if not all(rows.isfinite().all() for _, rows in row_parts(tensor)):
            raise NumericalError(
                f"{name} holds values that do not fit {storage_dtype}.", hint="Store it as float32."
            )
    computed_in = "float64" if storage_dtype == "float64" else "float32"
    config = saelens_config(dictionary, dtype=computed_in, metadata=metadata)
    with atomic_folder(folder) as temporary:
        write_tensors(temporary / WEIGHTS_FILE, tensors)
        if dictionary.origin.sparsity is not None:
            write_tensors(temporary / SPARSITY_FILE, {"sparsity": dictionary.origin.sparsity.float().cpu()})
        write_json(temporary / CONFIG_FILE, config)
        for name, value in (beside or {}).items():
            write_json(temporary / name, value)
    return folder


def saelens_config(
    dictionary: Dictionary, *, dtype: str = "float32", metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The `cfg.json` of a SAELens v6 folder.

    Args:
        dictionary: Whose configuration.
        dtype: Number format that readers shall compute in.
        metadata: Further entries for the metadata.
    """
    preparation = dictionary.preparation
    config: dict[str, Any] = {
        "architecture": _SAELENS_NAMES[dictionary.architecture],
        "d_in": dictionary.d_in,
        "d_sae": dictionary.d_sae,
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": preparation.subtract_b_dec,
        "normalize_activations": preparation.normalization.value,
        "reshape_activations": "hook_z" if preparation.flatten_heads else "none",
        "metadata": _metadata(dictionary, metadata or {}),
    }
    if dictionary.architecture is Architecture.TOPK:
        config |= {"k": dictionary.k, "rescale_acts_by_decoder_norm": dictionary.rescale_by_decoder_norm}
    return config


def _metadata(dictionary: Dictionary, extra: Mapping[str, Any]) -> dict[str, Any]:
    origin = dictionary.origin
    known: dict[str, Any] = {
        **origin.extra,
        "sae_lens_version": LAYOUT_VERSION,
        "model_name": origin.model_name,
        "hook_name": dictionary.hook_point.name,
        "hook_head_index": None,
        "prepend_bos": origin.prepend_bos,
        "context_size": origin.context_size,
        "expected_l0": origin.expected_l0,
        "expected_fvu": origin.expected_fvu,
        **extra,
    }
    if dictionary.preparation.center:
        kwargs = dict(known.get("model_from_pretrained_kwargs") or {})
        known["model_from_pretrained_kwargs"] = {**kwargs, "center_writing_weights": True}
    return {key: value for key, value in known.items() if value is not None}


def _stored_name(name: str, architecture: Architecture) -> str:
    return "b_gate" if name == "b_enc" and architecture is Architecture.GATED else name
