"""A GPT-2-shaped model and a dictionary for it, on disk, and a way to run the command line on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file

from onesense.cli.main import main
from onesense.model.language_model import LanguageModel
from onesense.model.load import save_model
from tiny_models import make_byte_tokenizer, tiny_hf


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def onesense(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["onesense", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = LanguageModel.from_hf(tiny_hf("gpt2"), make_byte_tokenizer(), "tiny")
    return save_model(model, tmp_path_factory.mktemp("models") / "gpt2")


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


@pytest.fixture(scope="session")
def sae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_old_saelens(tmp_path_factory.mktemp("saes") / "jb")


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"Line {i}. The quick brown fox. " * 3}) + "\n" for i in range(40))
    )
    return path
