"""Gemma Scope folders, against sae-lens' own loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onesense.errors import FormatError, IncompatibleError, UnsafeFileError
from onesense.sae.dictionary import Architecture, Dictionary
from onesense.sae.load import load_dictionary
from onesense.store.atomic import write_tensors
from tiny_dictionaries import D_IN, random_activations, random_dictionary

RELEASE = "gemma-scope-2b-pt-res"


def arrays(dictionary: Dictionary) -> dict[str, np.ndarray[Any, Any]]:
    named = {name.replace("W_", "w_"): tensor.numpy() for name, tensor in dictionary.tensors().items()}
    return {key: named[key] for key in ("w_enc", "w_dec", "b_enc", "b_dec", "threshold")}


def write_npz(root: Path, path: str, dictionary: Dictionary) -> Path:
    folder = root / path
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **arrays(dictionary))
    return folder


@pytest.fixture
def dictionary() -> Dictionary:
    return random_dictionary(Architecture.JUMPRELU)


@pytest.mark.parametrize(
    ("path", "hook", "model"),
    [
        (f"{RELEASE}/layer_12/width_16k/average_l0_82", "blocks.12.hook_resid_post", "google/gemma-2-2b"),
        (
            "gemma-scope-9b-it-res/layer_20/width_16k/average_l0_91",
            "blocks.20.hook_resid_post",
            "google/gemma-2-9b-it",
        ),
        (
            "gemma-scope-2b-pt-mlp/layer_3/width_16k/average_l0_82",
            "blocks.3.hook_mlp_out",
            "google/gemma-2-2b",
        ),
        (
            "gemma-scope-2b-pt-att/layer_3/width_16k/average_l0_82",
            "blocks.3.attn.hook_z",
            "google/gemma-2-2b",
        ),
        (
            f"hub/models--google--{RELEASE}/snapshots/{'a' * 40}/layer_5/width_65k/average_l0_50",
            "blocks.5.hook_resid_post",
            "google/gemma-2-2b",
        ),
    ],
)
def test_folder_names_tell_where_it_belongs(
    path: str, hook: str, model: str, dictionary: Dictionary, tmp_path: Path
) -> None:
    ours = load_dictionary(path=write_npz(tmp_path, path, dictionary))
    assert ours.hook_point.name == hook
    assert ours.origin.model_name == model
    assert ours.origin.expected_l0 == float(path.rsplit("_", 1)[1])
    assert ours.architecture is Architecture.JUMPRELU
    for name, tensor in dictionary.tensors().items():
        assert torch.equal(ours.tensors()[name], tensor)


@pytest.mark.parametrize("folder", ["layer_12/width_16k/average_l0_82", "embedding/width_4k/average_l0_6"])
def test_runs_as_in_sae_lens(
    folder: str, dictionary: Dictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig

    # without a bias, which sae-lens leaves unscaled in an embedding dictionary
    dictionary = random_dictionary(Architecture.JUMPRELU, b_dec=torch.zeros(D_IN))
    path = write_npz(tmp_path, f"{RELEASE}/{folder}", dictionary)
    monkeypatch.setattr(loaders, "hf_hub_download", lambda **_: str(path / "params.npz"))
    overrides = {"d_in": D_IN, "d_sae": dictionary.d_sae}
    config, state, _ = loaders.gemma_2_sae_huggingface_loader(
        f"google/{RELEASE}", folder, cfg_overrides=overrides
    )
    sae = JumpReLUSAE(
        JumpReLUSAEConfig(D_IN, dictionary.d_sae, apply_b_dec_to_input=config["apply_b_dec_to_input"])
    )
    sae.load_state_dict(state)
    x = random_activations(30)
    ours = load_dictionary(path=path)
    torch.testing.assert_close(ours.encode(x), sae.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.reconstruct(x), sae(x), rtol=1e-5, atol=1e-5)


def test_embedding_dictionaries_read_the_scaled_embedding(dictionary: Dictionary, tmp_path: Path) -> None:
    ours = load_dictionary(path=write_npz(tmp_path, f"{RELEASE}/embedding/width_4k/average_l0_6", dictionary))
    plain = load_dictionary(path=write_npz(tmp_path, f"{RELEASE}/layer_0/width_4k/average_l0_6", dictionary))
    assert ours.hook_point.name == "blocks.0.hook_resid_pre"
    x, scale = random_activations(20), D_IN**0.5
    torch.testing.assert_close(
        ours.reconstruct(x * scale), plain.reconstruct(x) * scale, rtol=1e-4, atol=1e-4
    )


def test_gemma_3_folders(dictionary: Dictionary, tmp_path: Path) -> None:
    for number, (folder, hook) in enumerate(
        [
            ("gemma-scope-2-4b-pt/resid_post/layer_9_width_16k_l0_medium", "blocks.9.hook_resid_post"),
            ("gemma-scope-2-4b-it/attn_out/layer_9_width_16k_l0_small", "blocks.9.attn.hook_z"),
            ("gemma-scope-2-270m-pt/mlp_out_all/layer_9_width_16k_l0_small", "blocks.9.hook_mlp_out"),
        ]
    ):
        path = tmp_path / str(number) / folder
        path.mkdir(parents=True)
        write_tensors(path / "params.safetensors", arrays(dictionary))
        ours = load_dictionary(path=path)
        assert ours.hook_point.name == hook
        assert torch.equal(ours.W_enc, dictionary.W_enc)
    assert ours.origin.model_name == "google/gemma-3-270m"


@pytest.mark.parametrize(
    "path",
    [
        "gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_8",
        "gemma-scope-2-4b-pt/clt/width_262k_l0_big",
    ],
)
def test_transcoders_are_refused(path: str, dictionary: Dictionary, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="transcoder"):
        load_dictionary(path=write_npz(tmp_path, path, dictionary))


@pytest.mark.parametrize("path", ["mine", "mine/layer_3", f"{RELEASE}/width_16k"])
def test_folders_that_were_renamed_are_refused(path: str, dictionary: Dictionary, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is named"):
        load_dictionary(path=write_npz(tmp_path, path, dictionary))


def test_pickled_arrays_are_never_read(tmp_path: Path) -> None:
    folder = tmp_path / RELEASE / "layer_1"
    folder.mkdir(parents=True)
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    np.savez(folder / "params.npz", w_enc=np.array([Bomb()], dtype=object))
    with pytest.raises(UnsafeFileError, match="pickled"):
        load_dictionary(path=folder)
    assert not marker.exists()


def test_damaged_archives(dictionary: Dictionary, tmp_path: Path) -> None:
    folder = write_npz(tmp_path, f"{RELEASE}/layer_1/x", dictionary)
    path = folder / "params.npz"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 16
    for damaged in (b"", content[:500], content[:-30], bytes(flipped), b"not an archive"):
        path.write_bytes(damaged)
        with pytest.raises(FormatError):
            load_dictionary(path=folder)


def test_missing_arrays(dictionary: Dictionary, tmp_path: Path) -> None:
    folder = write_npz(tmp_path, f"{RELEASE}/layer_1/x", dictionary)
    kept = {name: array for name, array in arrays(dictionary).items() if name != "threshold"}
    np.savez(folder / "params.npz", **kept)
    with pytest.raises(FormatError, match="threshold"):
        load_dictionary(path=folder)
