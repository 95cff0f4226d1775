"""What a command did, and a dictionary folder of an old layout to run it on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def write_old_saelens(folder: Path, *, hook_point: str = "blocks.0.hook_resid_pre", width: int = 32) -> Path:
    """A folder of the layout of gpt2-small-res-jb: a flat cfg.json, weights, sparsity."""
    folder.mkdir(parents=True, exist_ok=True)
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(3)))
    tensors = {
        "W_enc": torch.cat([rotation, -rotation], dim=1).contiguous(),
        "b_enc": torch.zeros(2 * width),
        "W_dec": torch.cat([rotation.T, -rotation.T]).contiguous(),
        "b_dec": torch.zeros(width),
    }
    config = {
        "model_name": "gpt2-small",
        "hook_point": hook_point,
        "hook_point_layer": int(hook_point.split(".")[1]),
        "activation_fn_str": "relu",
        "d_in": width,
        "d_sae": 2 * width,
        "context_size": 64,
        "dtype": "torch.float32",
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(tensors, folder / "sae_weights.safetensors")
    save_file({"sparsity": torch.linspace(-10, -1, 2 * width)}, folder / "sparsity.safetensors")
    return folder
