"""What there is no memory for is refused by every command that says how much it takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from command_line import Run


@pytest.mark.parametrize(
    "command",
    [
        ("extract", "--no-check", "--max-tokens", 200),
        ("audit", "--benchmark", "occupations-tune"),
        ("debias", "--no-check", "--templates", 1, "--steps", 1, "--max-density", 1),
    ],
    ids=lambda command: command[0],
)
def test_too_little_memory(
    onesense: Run,
    gpt2_folder: Path,
    sae_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[object, ...],
) -> None:
    none = SimpleNamespace(available=10**6, rss=0)
    system = SimpleNamespace(
        virtual_memory=lambda: none, Process=lambda: SimpleNamespace(memory_info=lambda: none)
    )
    monkeypatch.setattr("onesense.model.memory.psutil", system)
    name, *flags = command
    dictionary = () if name == "audit" else ("--sae-path", sae_folder)
    run = tmp_path / "run"
    outcome = onesense(name, gpt2_folder, *dictionary, *flags, "--run-folder", run, "--quiet")
    assert outcome.code == 10, outcome.err
    assert "GB of memory at most" in outcome.err
    assert "0.00 GB are free" in outcome.err
    assert "--force" in outcome.err
    assert "Traceback" not in outcome.err
    assert not run.exists()
