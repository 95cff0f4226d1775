"""dictionary_learning folders, against its definitions written out by hand, and against sae-lens."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from onesense.errors import FormatError, IncompatibleError, UnsafeFileError
from onesense.sae.dictionary import Architecture, Dictionary
from onesense.sae.load import load_dictionary
from onesense.store.atomic import write_tensors
from tiny_dictionaries import D_IN, D_SAE, K, random_activations, random_dictionary


def config(name: str, **trainer: Any) -> dict[str, Any]:
    settings = {
        "dict_class": name,
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        "layer": 8,
        "lm_name": "EleutherAI/pythia-70m-deduped",
        "k": K,
        "submodule_name": "resid_post_layer_8",
    }
    return {"trainer": {**settings, **trainer}, "buffer": {"ctx_len": 128}}


def linear(dictionary: Dictionary, bias: str) -> dict[str, Tensor]:
    return {
        "encoder.weight": dictionary.W_enc.T.contiguous(),
        "encoder.bias": dictionary.b_enc,
        "decoder.weight": dictionary.W_dec.T.contiguous(),
        bias: dictionary.b_dec,
    }


def state(name: str, dictionary: Dictionary) -> dict[str, Tensor]:
    """The state dict as each of their classes keeps it."""
    match name:
        case "AutoEncoder":
            return linear(dictionary, "bias")
        case "GatedAutoEncoder":
            kept = {
                key: value
                for key, value in linear(dictionary, "decoder_bias").items()
                if key != "encoder.bias"
            }
            gates = {"gate_bias": dictionary.b_enc, "mag_bias": dictionary.b_mag, "r_mag": dictionary.r_mag}
            return {**kept, **{key: value for key, value in gates.items() if value is not None}}
        case "AutoEncoderTopK":
            return {**linear(dictionary, "b_dec"), "k": torch.tensor(K), "threshold": torch.tensor(-1.0)}
        case "BatchTopKSAE":
            return {**linear(dictionary, "b_dec"), "k": torch.tensor(K), "threshold": torch.tensor(0.7)}
        case "MatryoshkaBatchTopKSAE":
            tensors = {key: getattr(dictionary, key) for key in ("W_enc", "b_enc", "W_dec", "b_dec")}
            return {**tensors, "threshold": torch.tensor(0.7), "group_sizes": torch.tensor([10, 30])}
        case _:
            assert dictionary.threshold is not None
            return dict(dictionary.tensors())


def by_hand(name: str, d: Dictionary, x: Tensor) -> Tensor:
    """Their encode, as their source defines it."""
    subtracted = x if name == "JumpReluAutoEncoder" else x - d.b_dec
    products = subtracted @ d.W_enc
    pre = products + d.b_enc
    match name:
        case "AutoEncoder":
            return pre.relu()
        case "GatedAutoEncoder":
            assert d.r_mag is not None
            assert d.b_mag is not None
            return (pre > 0) * (d.r_mag.exp() * products + d.b_mag).relu()
        case "AutoEncoderTopK":
            kept = pre.relu().topk(K, dim=-1)
            return torch.zeros_like(pre).scatter(-1, kept.indices, kept.values)
        case "JumpReluAutoEncoder":
            return (pre * (pre > d.threshold)).relu()
        case _:
            return pre.relu() * (pre.relu() > 0.7)


CLASSES = {
    "AutoEncoder": Architecture.RELU,
    "GatedAutoEncoder": Architecture.GATED,
    "AutoEncoderTopK": Architecture.TOPK,
    "BatchTopKSAE": Architecture.JUMPRELU,
    "MatryoshkaBatchTopKSAE": Architecture.JUMPRELU,
    "JumpReluAutoEncoder": Architecture.JUMPRELU,
}


def write_folder(folder: Path, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    torch.save(tensors, folder / "ae.pt")
    return folder


@pytest.mark.parametrize(("name", "architecture"), CLASSES.items())
def test_runs_as_its_source_says(name: str, architecture: Architecture, tmp_path: Path) -> None:
    reference = random_dictionary(architecture)
    ours = load_dictionary(path=write_folder(tmp_path, config(name), state(name, reference)))
    x = random_activations(40)
    latents = by_hand(name, reference, x)
    assert ours.architecture is architecture
    assert 0 < (latents > 0).double().mean() < 1
    torch.testing.assert_close(ours.encode(x), latents, rtol=1e-5, atol=1e-5)
    expected = latents @ reference.W_dec + reference.b_dec
    torch.testing.assert_close(ours.reconstruct(x), expected, rtol=1e-5, atol=1e-5)
    assert ours.hook_point.name == "blocks.8.hook_resid_post"
    assert (ours.origin.model_name, ours.origin.context_size) == ("EleutherAI/pythia-70m-deduped", 128)


@pytest.mark.parametrize("name", CLASSES)
def test_runs_as_in_sae_lens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as loaders

    folder = write_folder(tmp_path, config(name), state(name, random_dictionary(CLASSES[name])))
    monkeypatch.setattr(loaders, "hf_hub_download", lambda filename, **_: str(folder / Path(filename).name))
    settings, tensors, _ = loaders.dictionary_learning_sae_huggingface_loader_1("owner/name", "folder")
    twin = SAE.from_dict(loaders.handle_config_defaulting(settings))
    twin.load_state_dict(tensors)
    x = random_activations(40)
    torch.testing.assert_close(load_dictionary(path=folder).reconstruct(x), twin(x), rtol=1e-5, atol=1e-5)


def test_the_converted_file_is_read_in_its_place(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, config("AutoEncoder"), {})
    (folder / "ae.pt").unlink()
    reference = random_dictionary()
    write_tensors(folder / "ae.safetensors", state("AutoEncoder", reference))
    assert torch.equal(load_dictionary(path=folder).W_enc, reference.W_enc)


@pytest.mark.parametrize(
    ("submodule", "hook"),
    [
        ("mlp_out_layer_8", "blocks.8.hook_mlp_out"),
        ("attention_out_layer_8", "blocks.8.hook_attn_out"),
        (None, "blocks.8.hook_resid_post"),
    ],
)
def test_the_submodule_says_where_it_belongs(submodule: str | None, hook: str, tmp_path: Path) -> None:
    settings = config("AutoEncoder", submodule_name=submodule)
    folder = write_folder(tmp_path, settings, state("AutoEncoder", random_dictionary()))
    assert load_dictionary(path=folder).hook_point.name == hook


@pytest.mark.parametrize("threshold", [None, -1.0])
@pytest.mark.parametrize("name", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_a_lost_threshold_is_refused(name: str, threshold: float | None, tmp_path: Path) -> None:
    tensors = state(name, random_dictionary(Architecture.JUMPRELU))
    del tensors["threshold"]
    if threshold is not None:
        tensors["threshold"] = torch.tensor(threshold)
    with pytest.raises(FormatError, match="threshold"):
        load_dictionary(path=write_folder(tmp_path, config(name), tensors))


def test_unknown_classes_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("CrossCoder", "IdentityDict", "None"):
        folder = write_folder(tmp_path / name, config(name), state("AutoEncoder", random_dictionary()))
        with pytest.raises(IncompatibleError, match=name):
            load_dictionary(path=folder)


def test_configurations_of_something_else_are_refused(tmp_path: Path) -> None:
    tensors = state("AutoEncoder", random_dictionary())
    settings = config("AutoEncoder")
    del settings["trainer"]["layer"]
    for number, wrong in enumerate(({"model_type": "gpt2"}, {"trainer": "standard"}, settings)):
        with pytest.raises(FormatError):
            load_dictionary(path=write_folder(tmp_path / str(number), wrong, tensors))


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("how", ["torch", "pickle", "legacy"])
def test_a_malicious_pickle_runs_nothing(how: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "x", config("AutoEncoder"), state("AutoEncoder", random_dictionary()))
    marker = tmp_path / "ran"
    payload = {"encoder.weight": torch.zeros(2, 2), "bomb": Bomb(marker)}
    if how == "pickle":
        (folder / "ae.pt").write_bytes(pickle.dumps(Bomb(marker)))
    else:
        torch.save(payload, folder / "ae.pt", _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(UnsafeFileError) as caught:
        load_dictionary(path=folder)
    assert not marker.exists()
    assert "safetensors" in str(caught.value.hint)


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, config("AutoEncoder"), {})
    torch.save(torch.nn.Linear(2, 2), folder / "ae.pt")
    with pytest.raises(UnsafeFileError):
        load_dictionary(path=folder)


def test_damaged_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, config("AutoEncoder"), state("AutoEncoder", random_dictionary()))
    content = (folder / "ae.pt").read_bytes()
    for damaged in (b"", b"hello", content[: len(content) // 2], content[:-40], b"\x00" * 100):
        (folder / "ae.pt").write_bytes(damaged)
        with pytest.raises(FormatError) as caught:
            load_dictionary(path=folder)
        assert not isinstance(caught.value, UnsafeFileError)
    torch.save([1, 2, 3], folder / "ae.pt")
    with pytest.raises(FormatError, match="no tensors by name"):
        load_dictionary(path=folder)
