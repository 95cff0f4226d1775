"""A GPT-2-shaped model and a dictionary for it, on disk, and a way to run the command line on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Outcome, write_old_saelens
from onesense.cli.main import main
from onesense.model.language_model import LanguageModel
from onesense.model.load import save_model
from tiny_models import make_byte_tokenizer, tiny_hf


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
