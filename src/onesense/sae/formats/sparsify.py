"""sparsify folders: `cfg.json` and `sae.safetensors`, named after the module they read (`layers.12.mlp`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onesense.errors import FormatError, IncompatibleError
from onesense.sae.formats.files import read_config, read_safetensors
from onesense.sae.formats.parts import Parts

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"

_MODULE = re.compile(r"(?:^|[._])(?:layers|h|blocks)[._](?P<layer>\d+)(?:[._](?P<inner>.+))?$")
_EMBEDDINGS = ("embed_tokens", "embed_in", "model.embed_tokens")
_SITES = {
    "mlp": "hook_mlp_out",
    "mlp.act": "mlp.hook_post",
    "mlp.act_fn": "mlp.hook_post",
    "attn": "hook_attn_out",
    "self_attn": "hook_attn_out",
    "attention": "hook_attn_out",
}


def read_sparsify(folder: Path) -> Parts:
    """Read a sparsify folder.

    sparsify keeps both matrices as [num_latents, d_in] and always subtracts `b_dec` from the input.

    Raises:
        FormatError: A file is damaged, or the folder's name is not a module that maps.
        IncompatibleError: A transcoder, signed latents, or an activation that onesense does not support.
    """
    config = read_config(folder / CONFIG_FILE)
    _refuse_others(config)
    raw = read_safetensors(folder / WEIGHTS_FILE)
    missing = [name for name in ("encoder.weight", "W_dec") if name not in raw]
    if missing:
        raise FormatError(
            f"{folder / WEIGHTS_FILE} lacks {', '.join(missing)}, so it is not from sparsify.",
            hint="Check the file.",
        )
    d_sae = raw["encoder.weight"].shape[0]
    tensors: dict[str, Tensor] = {
        "W_enc": raw["encoder.weight"].T,
        "W_dec": raw["W_dec"],
        "b_enc": raw.get("encoder.bias", torch.zeros(d_sae)),
        "b_dec": raw.get("b_dec", torch.zeros(raw["encoder.weight"].shape[-1])),
    }
    return Parts(config=_config(config, folder), tensors=tensors)


def _config(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    run_file = folder.absolute().parent / "config.json"
    run = read_config(run_file) if run_file.is_file() else {}
    d_in, expansion = config.get("d_in"), config.get("expansion_factor")
    # num_latents is 0 where the width follows from the expansion factor
    d_sae = config.get("num_latents") or (_product(d_in, expansion) if d_in and expansion else None)
    upgraded = {
        "architecture": "topk",
        "k": config.get("k"),
        "d_in": d_in,
        "d_sae": d_sae,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "hook_name": _hook_name(folder),
        "model_name": run.get("model"),
        "dataset_path": run.get("dataset"),
        "context_size": run.get("ctx_len"),
        "prepend_bos": True,
    }
    return {key: value for key, value in upgraded.items() if value is not None}


def _product(d_in: object, expansion: object) -> float:
    if not isinstance(d_in, int | float) or not isinstance(expansion, int | float):
        raise FormatError(
            f"The configuration's d_in and expansion_factor are {d_in!r} and {expansion!r}, not numbers.",
            hint="Mend cfg.json.",
        )
    try:
        return d_in * expansion
    except OverflowError:  # a whole number beyond what floats reach
        return float("inf")


def _hook_name(folder: Path) -> str:
    name = folder.absolute().name
    if name in _EMBEDDINGS:
        return "blocks.0.hook_resid_pre"
    match = _MODULE.search(name)
    site = (
        "hook_resid_post"
        if match and match["inner"] is None
        else _SITES.get(match["inner"])
        if match
        else None
    )
    if match is None or site is None:
        raise FormatError(
            f"The folder's name `{name}` is not a module that maps to a hook point.",
            hint=f"It must be `layers.<N>` or `layers.<N>.<{'|'.join(_SITES)}>`, as sparsify names it.",
        )
    return f"blocks.{int(match['layer'])}.{site}"


def _refuse_others(config: dict[str, Any]) -> None:
    if config.get("transcode") or config.get("skip_connection"):
        raise IncompatibleError(
            "Dictionaries of the kind `transcoder` are not supported: they read one place of the model and "
            "write another.",
            hint="Choose one that was trained without `transcode`.",
        )
    if config.get("signed"):
        raise IncompatibleError(
            "Dictionaries of the kind `abstopk` are not supported: their latents can be negative.",
            hint="Choose one that was trained without `signed`.",
        )
    activation = config.get("activation", "topk")
    if activation != "topk":
        raise IncompatibleError(
            f"The activation function `{activation}` is not supported.", hint="Choose a topk dictionary."
        )
