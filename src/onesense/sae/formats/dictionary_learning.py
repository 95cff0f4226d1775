"""dictionary_learning folders: `config.json` and `ae.pt` (or `ae.safetensors`, converted)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from onesense.errors import FormatError, IncompatibleError
from onesense.sae.formats.files import read_config, read_safetensors, read_torch_file
from onesense.sae.formats.parts import Parts

CONFIG_FILE = "config.json"
TORCH_FILE = "ae.pt"
SAFETENSORS_FILE = "ae.safetensors"

# Their class -> architecture, and whether b_dec is subtracted from the input.
_CLASSES = {
    "AutoEncoder": ("standard", True),
    "AutoEncoderNew": ("standard", False),
    "GatedAutoEncoder": ("gated", True),
    "JumpReluAutoEncoder": ("jumprelu", False),
    "AutoEncoderTopK": ("topk", True),
    "BatchTopKSAE": ("jumprelu", True),
    "MatryoshkaBatchTopKSAE": ("jumprelu", True),
}
_BATCH_TOPK = ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")
# Their name -> ours; the first that is found counts. A weight of nn.Linear is [out, in] and is transposed.
_TENSOR_NAMES = {
    "W_enc": ("W_enc", "encoder.weight"),
    "W_dec": ("W_dec", "decoder.weight"),
    "b_enc": ("b_enc", "encoder.bias"),
    "b_dec": ("b_dec", "bias", "decoder_bias", "decoder.bias"),
    "b_gate": ("gate_bias",),
    "b_mag": ("mag_bias",),
    "r_mag": ("r_mag",),
}
_SITES = (("resid_pre", "hook_resid_pre"), ("mlp", "hook_mlp_out"), ("att", "hook_attn_out"))


def read_dictionary_learning(folder: Path) -> Parts:
    """Read a dictionary_learning folder.

    BatchTopK and Matryoshka are read by their threshold, which is how they run after training.

    Raises:
        FormatError: A file is damaged, an entry missing, or a threshold was never set.
        UnsafeFileError: Reading `ae.pt` would run code.
        IncompatibleError: A class that onesense does not support.
    """
    config = read_config(folder / CONFIG_FILE)
    trainer, buffer = config.get("trainer"), config.get("buffer") or {}
    if not isinstance(trainer, dict) or not isinstance(buffer, dict):
        raise FormatError(
            f"{folder / CONFIG_FILE} has no `trainer`, so it is not from dictionary_learning.",
            hint="Check the file.",
        )
    name = str(trainer.get("dict_class"))
    if name not in _CLASSES:
        raise IncompatibleError(
            f"Dictionaries of the class `{name}` are not supported.", hint=f"Known: {', '.join(_CLASSES)}."
        )
    safe = folder / SAFETENSORS_FILE
    raw = read_safetensors(safe) if safe.is_file() else read_torch_file(folder / TORCH_FILE)
    tensors = _renamed(raw)
    architecture, subtracts = _CLASSES[name]
    if architecture == "jumprelu":
        tensors["threshold"] = _threshold(raw, name)
    flat = _config(trainer, buffer)
    if architecture == "topk":
        flat["k"] = trainer.get("k", int(raw["k"]) if "k" in raw else None)
    return Parts(
        config={**flat, "architecture": architecture, "apply_b_dec_to_input": subtracts}, tensors=tensors
    )


def _config(trainer: Mapping[str, Any], buffer: Mapping[str, Any]) -> dict[str, Any]:
    if trainer.get("layer") is None:
        raise FormatError(
            "The configuration's trainer has no `layer`.", hint="Add trainer.layer to config.json."
        )
    config = {
        "d_in": trainer.get("activation_dim"),
        "d_sae": trainer.get("dict_size"),
        "hook_name": f"blocks.{trainer['layer']}.{_site(str(trainer.get('submodule_name') or ''))}",
        "model_name": trainer.get("lm_name"),
        "context_size": buffer.get("ctx_len"),
        "prepend_bos": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    return {key: value for key, value in config.items() if value is not None}


def _site(submodule: str) -> str:
    return next((site for word, site in _SITES if word in submodule), "hook_resid_post")


def _renamed(raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = {}
    for ours, names in _TENSOR_NAMES.items():
        stored = next((name for name in names if name in raw), None)
        if stored is not None:
            tensors[ours] = raw[stored].T if stored.endswith(".weight") else raw[stored]
    return tensors


def _threshold(raw: Mapping[str, Tensor], name: str) -> Tensor:
    threshold = raw.get("threshold")
    if threshold is None or (name in _BATCH_TOPK and bool((threshold < 0).any())):
        raise FormatError(
            f"The threshold of this {name} was lost, or never set in training; without it every positive "
            "latent would fire.",
            hint="Use a checkpoint from after the threshold was started (threshold_start_step).",
        )
    return threshold
