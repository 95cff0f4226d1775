"""What we write, sae-lens reads back bit by bit, and so do we."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from onesense.errors import ConfigurationError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.sae.dictionary import Architecture, Normalization, Origin, Preparation
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from tiny_dictionaries import ARCHITECTURES, D_SAE, prepared, random_activations, random_dictionary

ORIGIN = Origin(
    model_name="demo",
    prepend_bos=False,
    context_size=77,
    expected_l0=4.5,
    expected_fvu=0.21,
    sparsity=torch.linspace(-10, 0, D_SAE),
    extra={"dataset_path": "somewhere", "training": {"seed": 3}},
)


def through_sae_lens(folder: Path) -> Any:
    from sae_lens import SAE

    return SAE.load_from_disk(folder)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_sae_lens_reads_it_bit_by_bit(architecture: Architecture, storage: Any, tmp_path: Path) -> None:
    dictionary = random_dictionary(architecture)
    sae = through_sae_lens(write_saelens(dictionary, tmp_path / "out", storage_dtype=storage))
    state = sae.state_dict()
    for name, tensor in dictionary.tensors().items():
        theirs = state["b_gate" if architecture is Architecture.GATED and name == "b_enc" else name]
        assert torch.equal(theirs, tensor.to(getattr(torch, storage)).float()), name
    assert len(state) == len(dictionary.tensors())
    assert sae.W_dec.dtype == torch.float32


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("subtract", [True, False])
def test_sae_lens_computes_the_same(
    architecture: Architecture, normalization: Normalization, subtract: bool, tmp_path: Path
) -> None:
    factor = 2.3 if normalization is Normalization.EXPECTED_AVERAGE else None
    dictionary = random_dictionary(
        architecture,
        preparation=Preparation(normalization=normalization, norm_factor=factor, subtract_b_dec=subtract),
        rescale_by_decoder_norm=architecture is Architecture.TOPK,
    )
    sae = through_sae_lens(write_saelens(dictionary, tmp_path / "out"))
    x = random_activations(30)
    torch.testing.assert_close(sae(x), dictionary.reconstruct(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_we_read_back_what_we_wrote(architecture: Architecture, tmp_path: Path) -> None:
    dictionary = random_dictionary(
        architecture,
        origin=ORIGIN,
        hook_point=HookPoint(2, "attn.hook_z"),
        preparation=Preparation(center=True, subtract_b_dec=False, flatten_heads=True),
        rescale_by_decoder_norm=architecture is Architecture.TOPK,
    )
    back = load_dictionary(path=write_saelens(dictionary, tmp_path / "out"))
    for name, tensor in dictionary.tensors().items():
        assert torch.equal(back.tensors()[name], tensor)
    for name in ("architecture", "hook_point", "preparation", "k", "rescale_by_decoder_norm"):
        assert getattr(back, name) == getattr(dictionary, name)
    for name in ("model_name", "prepend_bos", "context_size", "expected_l0", "expected_fvu", "fingerprint"):
        assert getattr(back.origin, name) == getattr(dictionary.origin, name)
    assert back.origin.sparsity is not None
    assert torch.equal(back.origin.sparsity, ORIGIN.sparsity)
    assert back.origin.extra["training"] == {"seed": 3}


def test_half_storage_is_read_as_float32(tmp_path: Path) -> None:
    dictionary = random_dictionary()
    folder = write_saelens(dictionary, tmp_path / "out", storage_dtype="float16")
    back = load_dictionary(path=folder)
    assert back.dtype == torch.float32
    assert torch.equal(back.W_enc, dictionary.W_enc.half().float())
    assert (folder / "sae_weights.safetensors").stat().st_size < 2.6 * (dictionary.W_enc.numel() * 2)


def test_equal_dictionaries_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_saelens(random_dictionary(origin=ORIGIN), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["cfg.json", "sae_weights.safetensors", "sparsity.safetensors"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_metadata_is_added(tmp_path: Path) -> None:
    folder = write_saelens(
        prepared(random_dictionary(), center=True), tmp_path / "out", metadata={"recipe": "x"}
    )
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    assert metadata["recipe"] == "x"
    assert metadata["model_from_pretrained_kwargs"] == {"center_writing_weights": True}


def test_nothing_half_written(tmp_path: Path) -> None:
    dictionary = random_dictionary(W_dec=random_dictionary().W_dec * 1e6)
    with pytest.raises(NumericalError, match=r"W_dec .*float16"):
        write_saelens(dictionary, tmp_path / "out", storage_dtype="float16")
    with pytest.raises(NumericalError):
        write_saelens(random_dictionary(), tmp_path / "out", metadata={"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists"):
        write_saelens(random_dictionary(), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_writing_again_what_was_read_keeps_it(tmp_path: Path) -> None:
    first = load_dictionary(path=write_saelens(random_dictionary(origin=ORIGIN), tmp_path / "one"))
    second = load_dictionary(path=write_saelens(first, tmp_path / "two"))
    assert second.origin.fingerprint == first.origin.fingerprint
    assert replace(second.origin, path=None, sparsity=None) == replace(first.origin, path=None, sparsity=None)
