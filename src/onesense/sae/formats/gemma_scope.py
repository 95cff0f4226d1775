"""Gemma Scope folders: `params.npz` (Gemma 2) or `params.safetensors` (Gemma 3), named by their path alone.

The files hold no configuration: layer, L0 and hook point are read from the folders' names, such as
`gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82` (Lieberum et al. 2024, arXiv:2408.05147).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from onesense.errors import FormatError, IncompatibleError
from onesense.sae.formats.files import read_npz, read_safetensors
from onesense.sae.formats.parts import Parts

NPZ_FILE = "params.npz"
SAFETENSORS_FILE = "params.safetensors"

_REPOSITORY = re.compile(r"gemma-scope-(?P<second>2-)?(?P<size>\d+[bm])(?P<tuned>-it|-pt)?", re.IGNORECASE)
# How many folder names up from the file can belong to the release (a hub cache adds two).
_NAMES_READ = 8
_SITES = (
    (re.compile(r"resid_post|(?:^|[-_])res(?:$|[-_])"), "hook_resid_post"),
    (re.compile(r"mlp_out|(?:^|[-_])mlp(?:$|[-_])"), "hook_mlp_out"),
    (re.compile(r"attn_out|(?:^|[-_])att(?:$|[-_])"), "attn.hook_z"),
)
_TENSOR_NAMES = {
    "w_enc": "W_enc",
    "w_dec": "W_dec",
    "b_enc": "b_enc",
    "b_dec": "b_dec",
    "threshold": "threshold",
}


def read_gemma_scope(folder: Path) -> Parts:
    """Read a Gemma Scope folder.

    Args:
        folder: The folder with the parameters, inside the folders that it was published in.

    Raises:
        FormatError: The folders' names do not tell layer and hook point, or a file is damaged.
        IncompatibleError: A transcoder.
    """
    names = folder.absolute().parts[-_NAMES_READ:]
    refuse_transcoders(names)
    npz = folder / NPZ_FILE
    raw = read_npz(npz) if npz.is_file() else read_safetensors(folder / SAFETENSORS_FILE)
    missing = sorted(set(_TENSOR_NAMES) - set(raw))
    if missing:
        raise FormatError(
            f"{folder} is not a Gemma Scope dictionary: {', '.join(missing)} missing.",
            hint="Download it again.",
        )
    tensors = {ours: raw[theirs].float() for theirs, ours in _TENSOR_NAMES.items()}
    embedding = any(name.startswith("embedding") for name in names)
    if embedding:
        _rescale_embedding(tensors)
    return Parts(config=_config(folder, names, embedding=embedding), tensors=tensors)


def _config(folder: Path, names: tuple[str, ...], *, embedding: bool) -> dict[str, Any]:
    layer = _last_match(re.compile(r"layer_(\d+)"), names)
    if layer is None and not embedding:
        raise _unnamed(folder, "layer_<N>")
    # Gemma has no position embedding, so the scaled embedding is what enters the first block.
    hook_name = "blocks.0.hook_resid_pre" if embedding else f"blocks.{layer}.{_site(folder, names)}"
    config: dict[str, Any] = {
        "architecture": "jumprelu",
        "hook_name": hook_name,
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if hook_name.endswith("hook_z") else "none",
        "prepend_bos": True,
        "context_size": 1024,
        "dataset_path": "monology/pile-uncopyrighted",
    }
    model_name = _model_name(names)
    l0 = _last_match(re.compile(r"average_l0_(\d+)"), names)
    return {
        **config,
        **({} if model_name is None else {"model_name": model_name}),
        **({} if l0 is None else {"expected_l0": float(l0)}),
    }


def _site(folder: Path, names: tuple[str, ...]) -> str:
    for name in reversed(names):
        for pattern, site in _SITES:
            if pattern.search(name):
                return site
    raise _unnamed(folder, "gemma-scope-<size>-pt-<res|mlp|att>")


def _model_name(names: tuple[str, ...]) -> str | None:
    for name in reversed(names):
        match = _REPOSITORY.search(name)
        if match:
            suffix = "-it" if match["tuned"] == "-it" else ""
            if match["second"]:
                base = "-pt" if match["tuned"] == "-pt" and match["size"] != "270m" else suffix
                return f"google/gemma-3-{match['size']}{base}"
            return f"google/gemma-2-{match['size']}{suffix}"
    return None


def _rescale_embedding(tensors: dict[str, Tensor]) -> None:
    """It was trained on embeddings before Gemma multiplies them by sqrt(d_model); read it for those after."""
    scale = tensors["b_dec"].numel() ** 0.5
    tensors["W_enc"] = tensors["W_enc"] / scale
    tensors["W_dec"] = tensors["W_dec"] * scale
    tensors["b_dec"] = tensors["b_dec"] * scale


def refuse_transcoders(names: Iterable[str]) -> None:
    """Refuse folders whose names say that they hold a transcoder.

    Raises:
        IncompatibleError: One of them does.
    """
    for name in names:
        if "transcoder" in name or re.search(r"(?:^|[-_])clt(?:$|[-_])", name) or "crosscoder" in name:
            raise IncompatibleError(
                f"Dictionaries of the kind `transcoder` are not supported ({name}): they read one place of "
                "the model and write another.",
                hint="Choose a dictionary of the residual stream, such as gemma-scope-2b-pt-res.",
            )


def _last_match(pattern: re.Pattern[str], names: tuple[str, ...]) -> int | None:
    found = [match[1] for name in names for match in [pattern.search(name)] if match]
    return int(found[-1]) if found else None


def _unnamed(folder: Path, wanted: str) -> FormatError:
    return FormatError(
        f"{folder}: no folder above the parameters is named `{wanted}`, so their hook point is unknown.",
        hint="Keep the folders as published: gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82.",
    )
