"""sparsify folders, against its encoder written out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from onesense.errors import FormatError, IncompatibleError
from onesense.sae.dictionary import Architecture, Dictionary
from onesense.sae.load import load_dictionary
from onesense.store.atomic import write_tensors
from tiny_dictionaries import D_IN, D_SAE, K, random_activations, random_dictionary

CONFIG = {
    "expansion_factor": 32,
    "normalize_decoder": True,
    "num_latents": D_SAE,
    "k": K,
    "multi_topk": False,
    "skip_connection": False,
    "d_in": D_IN,
}


def stored(dictionary: Dictionary) -> dict[str, Tensor]:
    return {
        "encoder.weight": dictionary.W_enc.T.contiguous(),
        "encoder.bias": dictionary.b_enc,
        "W_dec": dictionary.W_dec,
        "b_dec": dictionary.b_dec,
    }


def write_folder(
    folder: Path, config: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    write_tensors(folder / "sae.safetensors", tensors or stored(random_dictionary()))
    return folder


@pytest.mark.parametrize("normalize", [True, False])
def test_runs_as_its_source_says(normalize: bool, tmp_path: Path) -> None:
    reference = random_dictionary()
    ours = load_dictionary(path=write_folder(tmp_path / "layers.3", {"normalize_decoder": normalize}))
    x = random_activations(40)
    # forward: encoder(x - b_dec), relu, top k, then the sum of decoder rows plus b_dec
    kept = ((x - reference.b_dec) @ reference.W_enc + reference.b_enc).relu().topk(K, dim=-1)
    expected = (kept.values.unsqueeze(-1) * reference.W_dec[kept.indices]).sum(dim=-2) + reference.b_dec
    torch.testing.assert_close(ours.reconstruct(x), expected, rtol=1e-5, atol=1e-5)
    assert ours.architecture is Architecture.TOPK
    assert ours.k == K


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("layers.3", "blocks.3.hook_resid_post"),
        ("layers.12.mlp", "blocks.12.hook_mlp_out"),
        ("model.layers.3.self_attn", "blocks.3.hook_attn_out"),
        ("h.2.mlp.act", "blocks.2.mlp.hook_post"),
        ("gpt_neox.layers.5.attention", "blocks.5.hook_attn_out"),
        ("embed_tokens", "blocks.0.hook_resid_pre"),
    ],
)
def test_the_folder_is_named_after_the_module(name: str, hook: str, tmp_path: Path) -> None:
    assert load_dictionary(path=write_folder(tmp_path / name)).hook_point.name == hook


@pytest.mark.parametrize("name", ["sae", "layers", "layers.3.ln_1", "layers.x"])
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"`{name}`"):
        load_dictionary(path=write_folder(tmp_path / name))


def test_the_run_beside_it_names_the_model(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "layers.3")
    (tmp_path / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-160m", "ctx_len": 512}))
    origin = load_dictionary(path=folder).origin
    assert (origin.model_name, origin.context_size) == ("EleutherAI/pythia-160m", 512)


def test_the_width_can_follow_from_the_expansion_factor(tmp_path: Path) -> None:
    reference = random_dictionary(d_sae=4 * D_IN)
    config = {"num_latents": 0, "expansion_factor": 4}
    assert (
        load_dictionary(path=write_folder(tmp_path / "layers.0", config, stored(reference))).d_sae == 4 * D_IN
    )
    with pytest.raises(IncompatibleError, match="d_sae"):
        load_dictionary(
            path=write_folder(tmp_path / "layers.1", {**config, "expansion_factor": 5}, stored(reference))
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"transcode": True}, "transcoder"),
        ({"skip_connection": True}, "transcoder"),
        ({"signed": True}, "abstopk"),
        ({"activation": "groupmax"}, "groupmax"),
        ({"k": D_SAE + 1}, "k is"),
    ],
)
def test_other_kinds_are_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match=message):
        load_dictionary(path=write_folder(tmp_path / "layers.0", config))


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="W_dec"):
        load_dictionary(
            path=write_folder(tmp_path / "layers.0", tensors={"encoder.weight": torch.zeros(D_SAE, D_IN)})
        )


@pytest.mark.parametrize("d_in", ["12", [12], {"a": 1}, 10**400])
def test_a_width_that_is_no_number_is_told(d_in: Any, tmp_path: Path) -> None:
    config = {"num_latents": 0, "d_in": d_in, "expansion_factor": 0.5}
    with pytest.raises(FormatError, match=r"d_in|d_sae"):
        load_dictionary(path=write_folder(tmp_path / "layers.1", config))


def test_a_transposed_decoder_is_refused(tmp_path: Path) -> None:
    tensors = stored(random_dictionary())
    tensors["W_dec"] = tensors["W_dec"].T.contiguous()
    with pytest.raises(IncompatibleError, match="transposed"):
        load_dictionary(path=write_folder(tmp_path / "layers.0", tensors=tensors))
