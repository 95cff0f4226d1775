"""Commands with a model that is larger than the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.integrations import accelerate as placing

from command_line import Run

PROMPT = "The nurse said that"


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a machine whose memory does not hold the model: most of it stays on disk."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("auto takes the GPU")

    def little(*_: Any, **__: Any) -> dict[str, int]:
        return {"cpu": 100_000}

    monkeypatch.setattr(placing, "get_max_memory", little)
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))


def test_steer(onesense: Run, gpt2_folder: Path, sae_folder: Path, little_memory: None) -> None:
    flags = ["--prompt", PROMPT, "--max-new-tokens", 6, "--feature-id", 1, "--coeff", 3]
    found = [
        onesense("steer", gpt2_folder, "--sae-path", sae_folder, *flags, *more)
        for more in ([], ["--device-map", "auto"])
    ]
    assert [one.code for one in found] == [0, 0]
    assert found[0].out == found[1].out


def test_two_places(onesense: Run, gpt2_folder: Path) -> None:
    refused = onesense("audit", gpt2_folder, "--suite", "quick", "--device", "cpu", "--device-map", "auto")
    assert refused.code == 2
    assert "not both" in refused.err
    assert "Traceback" not in refused.err


def test_learning_needs_the_weights(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, little_memory: None, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    refused = onesense(
        "debias",
        gpt2_folder,
        "--sae-path",
        sae_folder,
        "--no-check",
        "--device-map",
        "auto",
        "--run-folder",
        folder,
    )
    assert refused.code == 5
    assert "gradients through them" in refused.err
    assert "Traceback" not in refused.err
    assert not folder.exists()
