"""Readers of dictionaries, recipes, splits and exports."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fuzz_targets.files import ChangedFolder, Target, contents
from onesense.debias.export.control_vector import read_control_vectors
from onesense.model.hook_points import HookPoint
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.sae.load import read_folder
from onesense.sae.write import write_saelens
from onesense.senses.split.split_map import read_split_map
from onesense.steer.edit import Edit, Operation
from onesense.steer.recipe import DictionaryReference, ModelReference, Part, Recipe, read_recipe
from onesense.store.tensor_file import tensor_file_chunks

_IN, _SAE = 4, 6


def saelens(folder: Path) -> Target:
    """A SAELens folder, with sparsity and the scale of a trainer's checkpoint."""
    write_saelens(_dictionary(), folder / "made")
    whole = contents(folder / "made")
    whole["sparsity.safetensors"] = _safetensors({"sparsity": np.full(_SAE, -2.0, np.float32)})
    whole["activation_scaler.json"] = b'{"scaling_factor": 1.5}'
    return ChangedFolder(folder / "saelens", whole, read_folder)


def sparsify(folder: Path) -> Target:
    """A sparsify folder."""
    tensors = {
        "encoder.weight": _noise(_SAE, _IN), "encoder.bias": _noise(_SAE), "W_dec": _noise(_SAE, _IN),
        "b_dec": _noise(_IN),
    }  # fmt: skip
    config = {"d_in": _IN, "expansion_factor": 2, "num_latents": _SAE, "k": 2, "activation": "topk",
              "signed": False}  # fmt: skip
    whole = {"cfg.json": json.dumps(config).encode(), "sae.safetensors": _safetensors(tensors)}
    run = folder / "sparsify" / "config.json"
    run.parent.mkdir(parents=True)
    run.write_text('{"model": "gpt2", "ctx_len": 128}')
    return ChangedFolder(folder / "sparsify" / "layers.1.mlp", whole, read_folder)


def dictionary_learning(folder: Path) -> Target:
    """A dictionary_learning folder, with ``torch.save``'s archive."""
    state = {
        "encoder.weight": torch.from_numpy(_noise(_SAE, _IN)), "encoder.bias": torch.from_numpy(_noise(_SAE)),
        "decoder.weight": torch.from_numpy(_noise(_IN, _SAE)), "b_dec": torch.from_numpy(_noise(_IN)),
        "threshold": torch.tensor(0.1), "k": torch.tensor(2),
    }  # fmt: skip
    config = {
        "trainer": {"dict_class": "BatchTopKSAE", "activation_dim": _IN, "dict_size": _SAE, "layer": 1, "k": 2,
                    "submodule_name": "resid_post_layer_1", "lm_name": "gpt2"},
        "buffer": {"ctx_len": 128},
    }  # fmt: skip
    packed = io.BytesIO()
    torch.save(state, packed)
    whole = {"config.json": json.dumps(config).encode(), "ae.pt": packed.getvalue()}
    return ChangedFolder(folder / "dictionary_learning", whole, read_folder)


def gemma_scope(folder: Path) -> Target:
    """A Gemma Scope folder, with NumPy's archive."""
    packed = io.BytesIO()
    np.savez(
        packed, w_enc=_noise(_IN, _SAE), w_dec=_noise(_SAE, _IN), b_enc=_noise(_SAE), b_dec=_noise(_IN),
        threshold=np.abs(_noise(_SAE)),
    )  # fmt: skip
    place = folder / "gemma-scope-2b-pt-res" / "layer_12" / "width_16k" / "average_l0_82"
    return ChangedFolder(place, {"params.npz": packed.getvalue()}, read_folder)


def recipe(folder: Path) -> Target:
    """A recipe with edits at two hook points; without its content hash, so that changes are read."""
    parts = [
        Part(
            hook_point=f"blocks.{layer}.hook_resid_post",
            dictionary=DictionaryReference(path="sae", fingerprint="ab" * 32),
            edits=tuple(Edit(feature=f, operation=Operation.SCALE, value=0.5) for f in (1, 2)),
            mean_norm=2.0,
            max_activation={1: 3.0},
        )
        for layer in (0, 1)
    ]
    made = Recipe(model=ModelReference(name="m", fingerprint="cd" * 32), parts=tuple(parts)).to_json()
    del made["content_hash"]

    def read(place: Path) -> None:
        read = read_recipe(place / "recipe.json")
        Recipe.from_json(read.to_json())

    return ChangedFolder(folder / "recipe", {"recipe.json": json.dumps(made).encode()}, read)


def split_map(folder: Path) -> Target:
    """What says which feature of a split dictionary was which."""
    feature = {"children": [6, 7], "shares": [0.6, 0.4], "effective_before": 2.0, "effective_after": 1.0,
               "exactly_one": 1.0, "fvu_change": 0.0}  # fmt: skip
    quality = {"fvu": 0.1, "l0": 3.0, "cross_entropy": 2.0}
    made: dict[str, Any] = {
        "version": 1, "parent_fingerprint": "a", "fingerprint": "b", "features": {"3": feature},
        "refused": [{"feature": 4, "reason": "one sense", "value": 0.5}], "before": quality, "after": quality,
        "settings": {"seed": 0},
    }  # fmt: skip
    return ChangedFolder(folder / "split", {"split.json": json.dumps(made).encode()}, read_split_map)


def control_vector(folder: Path) -> Target:
    """A control vector as llama.cpp reads it."""
    from gguf import GGUFWriter

    path = folder / "made.gguf"
    writer = GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 2)
    writer.add_tensor("direction.1", _noise(_IN))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole = {"vector.gguf": path.read_bytes()}
    return ChangedFolder(folder / "gguf", whole, lambda place: read_control_vectors(place / "vector.gguf"))


def _dictionary() -> Dictionary:
    tensors = {"W_enc": (_IN, _SAE), "b_enc": (_SAE,), "W_dec": (_SAE, _IN), "b_dec": (_IN,)}
    return Dictionary(
        architecture=Architecture.JUMPRELU,
        hook_point=HookPoint(1, "hook_resid_post"),
        threshold=torch.full((_SAE,), 0.1),
        **{name: torch.from_numpy(_noise(*shape)) for name, shape in tensors.items()},
    )


def _noise(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _safetensors(tensors: dict[str, Any]) -> bytes:
    return b"".join(bytes(chunk) for chunk in tensor_file_chunks(tensors))
