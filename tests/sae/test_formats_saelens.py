"""SAELens folders, old and new, against sae-lens' own reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from onesense.errors import FormatError, HookPointError, IncompatibleError, NotFoundError, NumericalError
from onesense.sae.dictionary import Architecture, Normalization
from onesense.sae.formats.saelens import upgrade_config
from onesense.sae.load import load_dictionary
from tiny_dictionaries import (
    ARCHITECTURES,
    D_IN,
    D_SAE,
    K,
    random_activations,
    random_dictionary,
    saelens_twin,
)

OLD = {
    "model_name": "gpt2-small",
    "hook_point": "blocks.8.hook_resid_pre",
    "hook_point_layer": 8,
    "hook_point_head_index": None,
    "dataset_path": "Skylion007/openwebtext",
    "activation_fn_str": "relu",
    "d_in": D_IN,
    "d_sae": D_SAE,
    "context_size": 128,
    "dtype": "torch.float32",
    "device": "mps",
    "normalize_activations": "none",
}
NEW = {
    "architecture": "standard",
    "d_in": D_IN,
    "d_sae": D_SAE,
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "metadata": {
        "sae_lens_version": "6.12.0",
        "model_name": "gpt2-small",
        "hook_name": "blocks.3.hook_resid_post",
        "prepend_bos": False,
        "context_size": 64,
        "l0": 31.5,
    },
}


def write_folder(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors"
    )
    return folder


def standard_tensors() -> dict[str, Tensor]:
    return random_dictionary().tensors()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"apply_b_dec_to_input": False},
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}},
        {"normalize_activations": "layer_norm"},
        {"normalize_activations": "constant_norm_rescale", "architecture": "standard"},
        {"normalize_activations": None},
        {"hook_point": "blocks.2.attn.hook_z"},
        {"sae_lens_version": "3.20.1"},
    ],
)
def test_old_folders_run_as_in_sae_lens(change: dict[str, Any], tmp_path: Path) -> None:
    from sae_lens import SAE

    folder = write_folder(tmp_path / "old", {**OLD, **change}, standard_tensors())
    ours = load_dictionary(path=folder)
    theirs = SAE.load_from_disk(folder)
    x = random_activations(20)
    heads = x.unflatten(-1, (3, 4)) if "hook_z" in ours.hook_point.name else x
    torch.testing.assert_close(ours.encode(x), theirs.encode(heads), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.reconstruct(x), theirs(heads).reshape(20, D_IN), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [OLD, {**OLD, "normalize_activations": True}, NEW])
def test_configurations_are_upgraded_as_sae_lens_does(config: dict[str, Any]) -> None:
    from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

    theirs = handle_config_defaulting(dict(config))
    ours = upgrade_config(config)
    for key in (
        "architecture",
        "d_in",
        "d_sae",
        "apply_b_dec_to_input",
        "normalize_activations",
        "reshape_activations",
    ):
        assert ours[key] == theirs[key]
    for key in ("hook_name", "model_name", "context_size", "prepend_bos"):
        assert ours["metadata"][key] == theirs["metadata"][key]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("normalization", Normalization)
def test_folders_that_sae_lens_wrote(
    architecture: Architecture, normalization: Normalization, tmp_path: Path
) -> None:
    dictionary = random_dictionary(architecture)
    twin = saelens_twin(dictionary)
    twin.cfg.normalize_activations = normalization.value
    twin.save_model(tmp_path)
    ours = load_dictionary(path=tmp_path)
    assert ours.preparation.normalization is normalization
    for name, tensor in dictionary.tensors().items():
        assert torch.equal(ours.tensors()[name], tensor)


def test_what_the_configuration_says_is_kept(tmp_path: Path) -> None:
    origin = load_dictionary(path=write_folder(tmp_path / "new", NEW, standard_tensors())).origin
    assert (origin.model_name, origin.prepend_bos, origin.context_size) == ("gpt2-small", False, 64)
    assert origin.expected_l0 == 31.5
    assert origin.path == str(tmp_path / "new")


@pytest.mark.parametrize("layout", [OLD, NEW])
def test_centring_is_read_from_the_metadata(layout: dict[str, Any], tmp_path: Path) -> None:
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    config = (
        {**layout, "metadata": {**layout["metadata"], **kwargs}}
        if "metadata" in layout
        else {**layout, **kwargs}
    )
    assert load_dictionary(path=write_folder(tmp_path / "a", config, standard_tensors())).preparation.center
    assert not load_dictionary(
        path=write_folder(tmp_path / "b", layout, standard_tensors())
    ).preparation.center


def test_bfloat16_on_disk_is_read_as_float32(tmp_path: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in standard_tensors().items()}
    dictionary = load_dictionary(path=write_folder(tmp_path / "half", NEW, tensors))
    assert dictionary.dtype == torch.float32
    assert torch.equal(dictionary.W_enc, tensors["W_enc"].float())


def test_the_factor_beside_a_checkpoint_is_applied(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path, {**NEW, "normalize_activations": "expected_average_only_in"}, standard_tensors()
    )
    assert load_dictionary(path=folder).preparation.norm_factor is None
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.125}))
    ours = load_dictionary(path=folder)
    reference = random_dictionary()
    x = random_activations(10)
    torch.testing.assert_close(
        ours.reconstruct(x), reference.reconstruct(x * 0.125) / 0.125, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("rescale", [True, False])
def test_batchtopk_is_read_by_its_threshold(rescale: bool, tmp_path: Path) -> None:
    tensors = {**standard_tensors(), "topk_threshold": torch.tensor(0.8, dtype=torch.float64)}
    config = {**NEW, "architecture": "batchtopk", "k": 5, "rescale_acts_by_decoder_norm": rescale}
    ours = load_dictionary(path=write_folder(tmp_path, config, tensors))
    assert ours.architecture is Architecture.JUMPRELU
    x = random_activations(30)
    pre = ((x - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]).relu()
    norms = tensors["W_dec"].norm(dim=-1) if rescale else torch.ones(D_SAE)
    kept = pre * norms > 0.8
    assert 0 < kept.double().mean() < 0.9
    expected = (pre * kept) @ tensors["W_dec"] + tensors["b_dec"]
    torch.testing.assert_close(ours.reconstruct(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["jumprelu", "batchtopk", "matryoshka_batchtopk"])
def test_a_lost_threshold_is_refused(architecture: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {**NEW, "architecture": architecture}, standard_tensors())
    with pytest.raises(FormatError, match="lack threshold"):
        load_dictionary(path=folder)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_the_old_scaling_factor_goes_into_the_decoder(factor: float, tmp_path: Path) -> None:
    tensors = {**standard_tensors(), "scaling_factor": torch.full((D_SAE,), factor)}
    config = {**OLD, "finetuning_scaling_factor": True}
    ours = load_dictionary(path=write_folder(tmp_path / "a", config, tensors))
    torch.testing.assert_close(ours.W_dec, tensors["W_dec"] * factor)
    if factor != 1.0:
        with pytest.raises(FormatError, match="scaling factor"):
            load_dictionary(path=write_folder(tmp_path / "b", OLD, tensors))


@pytest.mark.parametrize(
    "architecture",
    ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder", "temporal"]
    + ["matching_pursuit", "abstopk", "clt", "crosscoder"],
)
def test_other_kinds_are_refused_by_name(architecture: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {**NEW, "architecture": architecture}, standard_tensors())
    with pytest.raises(IncompatibleError, match=f"`{architecture}`"):
        load_dictionary(path=folder)


def test_a_transcoder_in_disguise_is_refused(tmp_path: Path) -> None:
    other = {**NEW, "metadata": {**NEW["metadata"], "hook_name_out": "blocks.3.hook_mlp_out"}}  # type: ignore[dict-item]
    for number, (config, extra) in enumerate(
        [(other, {}), ({**NEW, "d_out": D_IN}, {}), (NEW, {"W_skip": torch.zeros(D_IN, D_IN)})]
    ):
        folder = write_folder(tmp_path / str(number), config, {**standard_tensors(), **extra})
        with pytest.raises(IncompatibleError, match="transcoder"):
            load_dictionary(path=folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"architecture": "quantum"}, FormatError, "`quantum`"),
        ({"normalize_activations": "covariance_whitening"}, IncompatibleError, "covariance_whitening"),
        ({"d_sae": -4}, FormatError, "d_sae"),
        ({"d_sae": 0}, FormatError, "d_sae"),
        ({"d_sae": 10**15}, FormatError, "d_sae"),
        ({"d_sae": "many"}, FormatError, "d_sae"),
        ({"d_sae": True}, FormatError, "d_sae"),
        ({"d_sae": D_SAE + 1}, IncompatibleError, "d_sae = 41"),
        ({"d_in": 768}, IncompatibleError, "d_in = 768"),
        ({"activation_fn": "tanh-relu"}, IncompatibleError, "tanh-relu"),
        ({"architecture": "topk"}, FormatError, "`k`"),
        ({"architecture": "topk", "k": D_SAE + 1}, IncompatibleError, "k is"),
        ({"metadata": {"sae_lens_version": "6.0.0"}}, FormatError, "hook point"),
        (
            {"metadata": {"sae_lens_version": "6.0.0", "hook_name": "blocks.1.hook_q"}},
            HookPointError,
            "hook_q",
        ),
        (
            {
                "metadata": {
                    "sae_lens_version": "6.0.0",
                    "hook_name": "blocks.1.attn.hook_z",
                    "hook_head_index": 3,
                }
            },
            IncompatibleError,
            "single attention head",
        ),
    ],
)
def test_bad_configurations(
    change: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path, {**NEW, **change}, standard_tensors())
    with pytest.raises(error, match=message):
        load_dictionary(path=folder)


def test_absent_widths_follow_from_the_weights(tmp_path: Path) -> None:
    config = {key: value for key, value in NEW.items() if key not in ("d_in", "d_sae")}
    dictionary = load_dictionary(path=write_folder(tmp_path, config, standard_tensors()))
    assert (dictionary.d_in, dictionary.d_sae) == (D_IN, D_SAE)


def test_topk_without_k_is_not_read_as_relu(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {**OLD, "activation_fn_str": "topk"}, standard_tensors())
    with pytest.raises(FormatError, match="topk but not how many"):
        load_dictionary(path=folder)


def test_not_finite_weights_are_named(tmp_path: Path) -> None:
    tensors = standard_tensors()
    tensors["W_dec"] = tensors["W_dec"].clone()
    tensors["W_dec"][9, 1] = float("nan")
    with pytest.raises(NumericalError, match=r"W_dec .*feature 9"):
        load_dictionary(path=write_folder(tmp_path, NEW, tensors))


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sound", NEW, standard_tensors())
    weights = (folder / "sae_weights.safetensors").read_bytes()
    for number, damaged in enumerate(
        (b"", weights[:100], weights[:-7], b"\xff" * 64 + weights, weights + b"more")
    ):
        broken = write_folder(tmp_path / str(number), NEW, standard_tensors())
        (broken / "sae_weights.safetensors").write_bytes(damaged)
        with pytest.raises(FormatError, match="sae_weights"):
            load_dictionary(path=broken)
    for text in ("", "{", "[1]", '{"d_in": NaN', "null"):
        (folder / "cfg.json").write_text(text)
        with pytest.raises(FormatError, match="cfg"):
            load_dictionary(path=folder)
    with pytest.raises(NotFoundError, match="no folder"):
        load_dictionary(path=tmp_path / "nowhere")


def test_a_flipped_bit_in_what_we_wrote_is_found(tmp_path: Path) -> None:
    from onesense.sae.write import write_saelens

    folder = write_saelens(random_dictionary(), tmp_path / "ours")
    path = folder / "sae_weights.safetensors"
    content = bytearray(path.read_bytes())
    for place in range(9, len(content), len(content) // 23):
        flipped = bytearray(content)
        flipped[place] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(FormatError):
            load_dictionary(path=folder)


def test_integers_for_weights_are_refused(tmp_path: Path) -> None:
    tensors = {**standard_tensors(), "b_enc": torch.zeros(D_SAE, dtype=torch.int64)}
    with pytest.raises(FormatError, match="b_enc"):
        load_dictionary(path=write_folder(tmp_path, NEW, tensors))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("activation_scaler.json", '{"scaling_factor": [1]}', "not a number"),
        ("activation_scaler.json", '{"scaling_factor": "1.5"}', "not a number"),
        ("activation_scaler.json", '{"scaling_factor": true}', "not a number"),
        ("cfg.json", '{"metadata": [1, 2]}', "`metadata`"),
        ("cfg.json", '{"metadata": "x"}', "`metadata`"),
    ],
)
def test_values_of_another_kind_are_told(tmp_path: Path, name: str, text: str, words: str) -> None:
    folder = write_folder(tmp_path / "folder", NEW, standard_tensors())
    (folder / name).write_text(text)
    with pytest.raises(FormatError, match=words):
        load_dictionary(path=folder)


def test_a_scaling_factor_beyond_what_floats_reach_is_infinite(tmp_path: Path) -> None:
    config = {**NEW, "normalize_activations": "expected_average_only_in"}
    folder = write_folder(tmp_path / "folder", config, standard_tensors())
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 1' + "0" * 400 + "}")
    with pytest.raises(FormatError, match="normalisation factor"):
        load_dictionary(path=folder)
