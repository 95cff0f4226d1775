"""A GPT-2-shaped model and a dictionary for it, on disk, and a way to run the command line on them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from cli.language_model_server import Script, serve
from command_line import Outcome, write_old_saelens
from onesense.cli.main import main
from onesense.features.extract import ExtractSettings, extract, write_original_json
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model, save_model
from onesense.sae.load import load_dictionary
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


@pytest.fixture
def script(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Script:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    return serve(httpserver)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents that share few contexts; each says its number."""
    chance = random.Random(0)
    path = tmp_path_factory.mktemp("documents") / "text.jsonl"
    lines = []
    for number in range(100, 180):
        words = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 7))) for _ in range(24)]
        words[::6] = [f"N{number}" for _ in words[::6]]
        lines.append(json.dumps({"text": " ".join(words)}) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="session")
def extracted(
    gpt2_folder: Path, sae_folder: Path, text: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("extracted")
    extraction = extract(
        load_model(str(gpt2_folder), dtype="float32"),
        load_dictionary(path=sae_folder),
        folder / "run",
        ExtractSettings(text=str(text), check=False),
    )
    write_original_json(extraction, folder / "top.json")
    return folder


@pytest.fixture
def run(extracted: Path, tmp_path: Path) -> Path:
    """An extracted run, with its table beside it."""
    shutil.copytree(extracted, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"
