"""Loading and saving: demo, GGUF, folders, names; everything offline (sae.md 3: 2, 17, 26, 44, 61)."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from onesense.errors import (
    ConfigurationError,
    DeviceError,
    FormatError,
    NetworkError,
    NotFoundError,
    StorageError,
)
from onesense.model import load
from onesense.model.capture import capture
from onesense.model.demo_model import demo_gguf
from onesense.model.dtype import has_native_bfloat16, resolve_dtype
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model, save_model
from onesense.model.names import hub_name
from onesense.model.tokens import pad_batch
from tiny_models import make_byte_tokenizer, tiny_hf

ROW = [[256, 1, 2, 3]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(
        LanguageModel.from_hf(tiny_hf("llama"), make_byte_tokenizer(), "tiny"), tmp_path / "model"
    )


def logits(model: LanguageModel, row: list[list[int]] = ROW) -> torch.Tensor:
    with torch.no_grad():
        return model.hf(torch.tensor(row)).logits


def test_a_saved_folder_is_a_plain_model(folder: Path) -> None:
    loaded = load_model(str(folder))
    plain = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(logits(loaded), plain(torch.tensor(ROW)).logits, rtol=0, atol=0)
    assert loaded.bos_id == 256
    assert loaded.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in loaded.hf.parameters())


def test_a_folder_without_a_tokenizer_loads(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    model = load_model(str(folder))
    assert model.tokenizer is None
    point = HookPoint(1, "hook_resid_post")
    assert capture(model, pad_batch(model, ROW), [point])[point].shape == (1, 4, 32)


def test_a_damaged_tokenizer_is_no_missing_one(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{broken")
    with pytest.raises(FormatError, match="tokenizer"):
        load_model(str(folder))


def test_the_demo_model_is_the_gguf_file_and_can_be_saved_again(
    demo_model: LanguageModel, tmp_path: Path
) -> None:
    assert demo_gguf().suffix == ".gguf"
    assert (demo_model.n_layers, demo_model.d_model, demo_model.vocab_size) == (30, 576, 49152)
    again = load_model(str(save_model(demo_model, tmp_path / "copy")))
    row = [[1, 100, 200, 300]]
    torch.testing.assert_close(logits(again, row), logits(demo_model, row), rtol=0, atol=0)
    assert again.fingerprint == demo_model.fingerprint
    assert "quantization_config" not in json.loads((tmp_path / "copy" / "config.json").read_text())


def test_the_demo_model_speaks_english(demo_model: LanguageModel) -> None:
    ids = demo_model.require_tokenizer()("The capital of France is", add_special_tokens=False)["input_ids"]
    best = int(logits(demo_model, [[1, *ids]])[0, -1].argmax())
    assert demo_model.token_strings([best]) == [" Paris"]


def test_fingerprints_tell_weights_apart() -> None:
    one, same, other = (LanguageModel.from_hf(tiny_hf("gpt2", seed), None, "x") for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "gemma2"])
def test_a_copy_in_bfloat16_is_the_same_model(family: str) -> None:
    model = LanguageModel.from_hf(tiny_hf(family), make_byte_tokenizer(), "x")
    copy = model.copy_as(torch.bfloat16)
    assert copy.dtype == torch.bfloat16
    assert model.dtype == torch.float32
    reference = tiny_hf(family).to(torch.bfloat16)
    torch.testing.assert_close(logits(copy), reference(torch.tensor(ROW)).logits, rtol=0.1, atol=0.1)
    assert copy.fingerprint == model.fingerprint
    assert model.copy_as(torch.float32) is model


def test_names_of_transformer_lens() -> None:
    assert hub_name("gpt2-small") == "openai-community/gpt2"
    assert hub_name("someone/else") == "someone/else"


def test_bad_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigurationError):
        load_model(" ")
    with pytest.raises(NotFoundError):
        load_model(str(tmp_path / "nothing"))
    with pytest.raises(NotFoundError):
        load_model(str(tmp_path / "nothing.gguf"))
    with pytest.raises(FormatError, match=r"config\.json"):
        load_model(str(tmp_path))
    with pytest.raises(NetworkError, match="neither in the local cache nor reachable"):
        load_model("onesense-tests/no-such-model")
    with pytest.raises(ConfigurationError, match="dtype"):
        load_model("demo", dtype="int3")
    with pytest.raises(ConfigurationError):
        load_model("demo", device="nonsense")
    with pytest.raises(DeviceError):
        load_model("demo", device="cuda:7")


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_damaged_weights(folder: Path, damage: str) -> None:
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(
        {"truncated": content[: len(content) // 2], "empty": b"", "garbage": b"x" * 500}[damage]
    )
    with pytest.raises(FormatError):
        load_model(str(folder))


def test_a_damaged_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(FormatError, match="GGUF"):
        load_model(str(path))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("other_finishes", [True, False])
def test_another_process_may_convert_the_same_gguf_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_finishes: bool
) -> None:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    plain = load_model(str(folder))
    from_pretrained = AutoModelForCausalLM.from_pretrained

    def read(source: str, **keywords: object) -> object:
        """The conversion: meanwhile another process puts its own result in place."""
        if "gguf_file" not in keywords:
            return from_pretrained(source, **keywords)
        target = load._conversion_folder(load._sha256(path))
        target.mkdir(parents=True)
        if other_finishes:
            shutil.copytree(folder, target, dirs_exist_ok=True)
        else:
            (target / "something").write_text("not a model")
        return copy.deepcopy(plain.hf)

    monkeypatch.setattr(load.AutoModelForCausalLM, "from_pretrained", read)
    monkeypatch.setattr(
        load, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda *_, **__: plain.tokenizer)
    )
    if other_finishes:
        torch.testing.assert_close(logits(load_model(str(path))), logits(plain), rtol=0, atol=0)
    else:
        with pytest.raises(ConfigurationError, match="exists already"):
            load_model(str(path))


def test_code_that_comes_with_a_model_never_runs(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.EvilConfig"}
    config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w').write('ran')\n")
    with pytest.raises(FormatError):
        load_model(str(folder))
    assert not canary.exists()


def test_saving_never_overwrites(folder: Path) -> None:
    model = load_model(str(folder))
    with pytest.raises((ConfigurationError, StorageError)):
        save_model(model, folder)
    shutil.rmtree(folder)


def test_dtype_auto_follows_the_hardware() -> None:
    cpu = torch.device("cpu")
    assert resolve_dtype("auto", cpu) == (torch.bfloat16 if has_native_bfloat16(cpu) else torch.float32)
    with pytest.raises(ConfigurationError, match="float16"):
        resolve_dtype("float16", cpu)
