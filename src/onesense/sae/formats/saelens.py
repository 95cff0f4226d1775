"""SAELens folders: `cfg.json`, `sae_weights.safetensors`, `sparsity.safetensors`; old and v6 layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onesense.errors import FormatError
from onesense.sae.formats.files import read_config, read_safetensors
from onesense.sae.formats.parts import Parts
from onesense.sae.write import CONFIG_FILE, SPARSITY_FILE, WEIGHTS_FILE

# A trainer's checkpoint keeps here the factor that its final save folds into the weights.
SCALER_FILE = "activation_scaler.json"

_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
# Entries of the flat layout that say how the dictionary computes; all others describe where it belongs.
RULE_KEYS = (
    "architecture",
    "d_in",
    "d_sae",
    "dtype",
    "device",
    "k",
    "rescale_acts_by_decoder_norm",
    "apply_b_dec_to_input",
    "normalize_activations",
    "reshape_activations",
    "activation_fn",
    "activation_fn_kwargs",
    "finetuning_scaling_factor",
)


def read_saelens(folder: Path) -> Parts:
    """Read a SAELens folder.

    Raises:
        NotFoundError: A file is missing.
        FormatError: A file is damaged.
    """
    sparsity_file, scaler_file = folder / SPARSITY_FILE, folder / SCALER_FILE
    sparsity = read_safetensors(sparsity_file).get("sparsity") if sparsity_file.is_file() else None
    factor = read_config(scaler_file).get("scaling_factor") if scaler_file.is_file() else None
    if factor is not None and (isinstance(factor, bool) or not isinstance(factor, int | float)):
        raise FormatError(
            f"{scaler_file}: scaling_factor is {factor!r}, not a number.", hint="Download it again."
        )
    return Parts(
        config=read_config(folder / CONFIG_FILE),
        tensors=read_safetensors(folder / WEIGHTS_FILE),
        sparsity=sparsity,
        norm_factor=None if factor is None else _as_float(factor),
    )


def upgrade_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in the layout of version 6: the rule on top, all else under `metadata`.

    Follows what sae-lens does with folders from before version 6. Entries on top of a v6 configuration that
    do not belong to the rule (a registry's overrides) move under `metadata`.

    Raises:
        FormatError: The configuration names topk without k.
    """
    renamed = {_RENAMED.get(key, key): value for key, value in config.items()}
    metadata = renamed.pop("metadata", None) or {}
    if not isinstance(metadata, Mapping):
        raise FormatError(
            f"The configuration's `metadata` is {metadata!r}, not an object.", hint="Mend cfg.json."
        )
    metadata = dict(metadata)
    metadata |= {key: value for key, value in renamed.items() if key not in RULE_KEYS}
    rule = {key: renamed[key] for key in RULE_KEYS if key in renamed}
    if _major_version(metadata.get("sae_lens_version")) >= 6:
        return {**rule, "metadata": metadata}
    rule.setdefault("architecture", "standard")
    rule.setdefault("apply_b_dec_to_input", True)
    metadata.setdefault("prepend_bos", True)
    hook_name = str(metadata.get("hook_name") or "")
    rule.setdefault("reshape_activations", "hook_z" if "hook_z" in hook_name else "none")
    if rule.get("activation_fn") == "topk":
        k = (rule.get("activation_fn_kwargs") or {}).get("k", rule.get("k"))
        if k is None:
            raise FormatError(
                "The configuration says topk but not how many latents (k).",
                hint="Add activation_fn_kwargs.k.",
            )
        rule |= {"architecture": "topk", "k": k}
    normalize = rule.get("normalize_activations")
    if isinstance(normalize, bool) or normalize is None:
        rule["normalize_activations"] = "expected_average_only_in" if normalize else "none"
    return {**rule, "metadata": metadata}


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # a whole number beyond what floats reach
        return float("inf")


def _major_version(version: object) -> int:
    match = re.match(r"\d+", str(version or ""))
    return int(match[0]) if match else 0
