"""Finding a dictionary: packaged, on disk, in the registry through the hub's cache; and not finding it."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from onesense.errors import (
    ConfigurationError,
    FormatError,
    IncompatibleError,
    NetworkError,
    NotFoundError,
)
from onesense.sae import load
from onesense.sae.dictionary import Architecture, Origin
from onesense.sae.load import demo_ids, load_dictionary
from onesense.sae.registry import sae_ids
from onesense.sae.write import saelens_config, write_saelens
from tiny_dictionaries import D_IN, random_activations, random_dictionary

COMMIT = "a" * 40
JB = "jbloom/GPT2-Small-SAEs-Reformatted"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def cached(cache: Path, repo_id: str, folder: str) -> Path:
    """A folder of a repository in the cache, as a download would have left it."""
    repository = cache / f"models--{repo_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT / folder
    snapshot.mkdir(parents=True)
    return snapshot


def old_config(**changes: Any) -> str:
    settings = {
        "model_name": "gpt2-small",
        "hook_point": "blocks.8.hook_resid_pre",
        "activation_fn_str": "relu",
        "d_in": D_IN,
        "d_sae": 40,
        "context_size": 128,
        "dtype": "torch.float32",
    }
    return json.dumps({**settings, **changes})


def test_a_release_from_the_cache(hub_cache: Path) -> None:
    folder = cached(hub_cache, JB, "blocks.8.hook_resid_pre")
    reference = random_dictionary()
    (folder / "cfg.json").write_text(old_config())
    save_file(reference.tensors(), folder / "sae_weights.safetensors")
    save_file({"sparsity": torch.full((40,), -3.0)}, folder / "sparsity.safetensors")

    ours = load_dictionary(release="gpt2-small-res-jb", sae_id="blocks.8.hook_resid_pre")
    assert torch.equal(ours.W_dec, reference.W_dec)
    assert ours.preparation.center
    assert (ours.origin.release, ours.origin.sae_id) == ("gpt2-small-res-jb", "blocks.8.hook_resid_pre")
    assert ours.origin.expected_l0 is not None
    assert ours.origin.expected_fvu is not None
    assert ours.origin.sparsity is not None
    assert ours.origin.sparsity[0] == -3.0


def test_our_own_readers_do_not_import_sae_lens(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cached(hub_cache, JB, "blocks.8.hook_resid_pre")
    (folder / "cfg.json").write_text(old_config())
    save_file(random_dictionary().tensors(), folder / "sae_weights.safetensors")
    spec = sys.modules.get("sae_lens")
    if spec is None:
        load_dictionary(release="gpt2-small-res-jb", sae_id="blocks.8.hook_resid_pre")
        assert "sae_lens" not in sys.modules
    else:
        monkeypatch.setitem(sys.modules, "sae_lens.loading", None)
        assert load_dictionary(release="gpt2-small-res-jb", sae_id="blocks.8.hook_resid_pre").d_sae == 40


def test_a_release_with_a_factor_runs_as_in_sae_lens(hub_cache: Path) -> None:
    """Llama Scope: its loader is sae-lens' own, its threshold and weights are scaled."""
    from sae_lens import SAE

    repo_id, folder_name = "fnlp/Llama3_1-8B-Base-LXR-8x", "Llama3_1-8B-Base-L3R-8x"
    folder = cached(hub_cache, repo_id, folder_name)
    (folder / "checkpoints").mkdir()
    settings = {
        "d_model": D_IN,
        "d_sae": 40,
        "jump_relu_threshold": 0.4,
        "dataset_average_activation_norm": {"in": 9.0},
        "hook_point_in": "blocks.3.hook_resid_post",
    }
    (folder / "hyperparams.json").write_text(json.dumps(settings))
    reference = random_dictionary()
    tensors = {
        "encoder.weight": reference.W_enc.T,
        "encoder.bias": reference.b_enc,
        "decoder.weight": reference.W_dec.T,
        "decoder.bias": reference.b_dec,
    }
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "checkpoints" / "final.safetensors")

    ours = load_dictionary(release="llama_scope_lxr_8x", sae_id="l3r_8x")
    theirs = SAE.from_pretrained("llama_scope_lxr_8x", "l3r_8x")
    assert ours.architecture is Architecture.JUMPRELU
    assert ours.preparation.norm_factor is not None
    x = random_activations(30)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.reconstruct(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_a_repository_that_the_registry_does_not_list(hub_cache: Path, tmp_path: Path) -> None:
    reference = random_dictionary(Architecture.TOPK)
    folder = cached(hub_cache, "someone/their-saes", "layer-3")
    (folder / "cfg.json").write_text(json.dumps(saelens_config(reference)))
    save_file(reference.tensors(), folder / "sae_weights.safetensors")
    ours = load_dictionary(release="someone/their-saes", sae_id="layer-3")
    assert torch.equal(ours.W_enc, reference.W_enc)
    assert ours.k == reference.k


def test_a_repository_of_another_format(hub_cache: Path) -> None:
    reference = random_dictionary(Architecture.TOPK)
    folder = cached(hub_cache, "someone/their-saes", "layers.3")
    (folder / "cfg.json").write_text(json.dumps({"k": reference.k, "d_in": D_IN, "num_latents": 40}))
    save_file(
        {"encoder.weight": reference.W_enc.T.contiguous(), "W_dec": reference.W_dec},
        folder / "sae.safetensors",
    )
    assert torch.equal(
        load_dictionary(release="someone/their-saes", sae_id="layers.3").W_enc, reference.W_enc
    )


@pytest.mark.parametrize(
    ("release", "sae_id"),
    [
        ("gpt2-small-res-jb", "blocks.8.hook_resid_pre"),
        ("gemma-scope-2b-pt-res-canonical", "layer_12/width_16k/canonical"),
        ("llama_scope_lxr_8x", "l3r_8x"),
        ("someone/their-saes", "layer-3"),
    ],
)
def test_neither_cached_nor_reachable(release: str, sae_id: str, hub_cache: Path) -> None:
    with pytest.raises(NetworkError, match="neither in the local cache nor reachable"):
        load_dictionary(release=release, sae_id=sae_id)


@pytest.mark.parametrize("release", ["gpt2-smal-res-jb", "no-such"])
def test_unknown_release(release: str) -> None:
    with pytest.raises(NotFoundError, match=release) as caught:
        load_dictionary(release=release, sae_id="x")
    assert "sae list" in str(caught.value.hint)
    assert ("gpt2-small-res-jb" in str(caught.value.hint)) == (release == "gpt2-smal-res-jb")


def test_unknown_id() -> None:
    with pytest.raises(NotFoundError, match=r"blocks\.99"):
        load_dictionary(release="gpt2-small-res-jb", sae_id="blocks.99.hook_resid_pre")


def test_transcoder_releases_are_refused_before_anything_is_fetched(hub_cache: Path) -> None:
    for release in ("gemma-scope-2b-pt-transcoders", "gemma-scope-2-4b-pt-transcoders-all"):
        sae_id = sae_ids(release)[0]
        with pytest.raises(IncompatibleError, match="transcoder"):
            load_dictionary(release=release, sae_id=sae_id)


@pytest.fixture
def demo_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two demo dictionaries in it."""
    root = tmp_path / "package"
    for layer in (3, 4):
        name = f"blocks.{layer}.hook_resid_post"
        write_saelens(
            random_dictionary(seed=layer, origin=Origin(model_name="demo")),
            root / "demo" / "dictionaries" / name,
            storage_dtype="float16",
        )
    monkeypatch.setattr(resources, "files", lambda _: root)
    return root


def test_the_packaged_release(demo_package: Path) -> None:
    assert demo_ids() == ("blocks.3.hook_resid_post", "blocks.4.hook_resid_post")
    ours = load_dictionary(release="demo", sae_id="blocks.4.hook_resid_post")
    assert ours.dtype == torch.float32
    assert torch.equal(ours.W_enc, random_dictionary(seed=4).W_enc.half().float())
    assert (ours.origin.release, ours.origin.model_name) == ("demo", "demo")
    assert ours.origin.path is None


@pytest.mark.parametrize("sae_id", ["blocks.5.hook_resid_post", "../../secret", "", None])
def test_the_packaged_release_lists_what_it_has(sae_id: str | None, demo_package: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        load_dictionary(release="demo", sae_id=sae_id)
    assert "blocks.3.hook_resid_post, blocks.4.hook_resid_post" in str(caught.value.hint)


def test_nothing_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    with pytest.raises(NotFoundError, match="demo"):
        load_dictionary(release="demo", sae_id="blocks.3.hook_resid_post")


def test_number_formats(tmp_path: Path) -> None:
    folder = write_saelens(random_dictionary(), tmp_path / "out")
    assert load_dictionary(path=folder, dtype="bfloat16").W_dec.dtype == torch.bfloat16
    with pytest.raises(ConfigurationError, match="int8"):
        load_dictionary(path=folder, dtype="int8")


def test_a_file_stands_for_its_folder(tmp_path: Path) -> None:
    folder = write_saelens(random_dictionary(), tmp_path / "out")
    assert load_dictionary(path=folder / "sae_weights.safetensors").d_in == D_IN


def test_folders_that_are_no_dictionary(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FormatError, match=r"notes\.txt"):
        load_dictionary(path=tmp_path)
    write_saelens(random_dictionary(), tmp_path / "inner")
    with pytest.raises(FormatError, match="holds some") as caught:
        load_dictionary(path=tmp_path)
    assert "inner" in str(caught.value.hint)


@pytest.mark.parametrize(
    "arguments", [{}, {"release": "demo", "path": "x"}, {"release": "gpt2-small-res-jb"}, {"sae_id": "x"}]
)
def test_what_to_load_must_be_said(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        load_dictionary(**arguments)


def test_every_loader_of_the_registry_is_known() -> None:
    from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_LOADERS

    assert set(load._LOADERS) <= set(NAMED_PRETRAINED_SAE_LOADERS)
