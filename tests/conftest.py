"""Models that every test may use: tiny random ones of four families, and the real demo model."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import settings
from transformers import PreTrainedTokenizerFast

from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from tiny_models import make_byte_tokenizer, tiny_hf

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tests never time: a busy machine is no failure.
settings.register_profile("onesense", deadline=None)
settings.load_profile("onesense")


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads the developer's `.env`, `onesense.toml` or environment."""
    for name in list(os.environ):
        if name.startswith("ONESENSE_") and name not in ("ONESENSE_DATA", "ONESENSE_CACHE"):
            monkeypatch.delenv(name)
    for name in (
        "MODEL_NAME",
        "SAE_RELEASE",
        "SAE_ID",
        "LAYER",
        "TOP_ACTIVATIONS_FILE",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    return make_byte_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(byte_tokenizer: PreTrainedTokenizerFast) -> Callable[[str], LanguageModel]:
    made: dict[str, LanguageModel] = {}

    def make(family: str) -> LanguageModel:
        if family not in made:
            made[family] = LanguageModel.from_hf(tiny_hf(family), byte_tokenizer, f"tiny-{family}")
        return made[family]

    return make


@pytest.fixture(scope="session")
def tiny_gpt2(tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_model("gpt2")


@pytest.fixture(scope="session")
def tiny_llama(tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_model("llama")


@pytest.fixture(scope="session")
def tiny_neox(tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_model("gpt_neox")


@pytest.fixture(scope="session")
def tiny_gemma2(tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_model("gemma2")


@pytest.fixture(scope="session")
def demo_model() -> LanguageModel:
    """SmolLM2-135M-Instruct in float32."""
    return load_model("demo", device="cpu")


_NEEDED = {"hub": "the model hub", "cuda": "a CUDA device", "mps": "an Apple GPU"}


def _unexpected(skipped: list[pytest.TestReport]) -> list[str]:
    """Skipped tests that need nothing but what CI has."""
    return [report.nodeid for report in skipped if not any(name in report.keywords for name in _NEEDED)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that need a hub or a GPU and were not run; fail on any other skip where CI asks for it."""
    skipped = terminalreporter.stats.get("skipped", [])
    for report in skipped:
        for name, what in _NEEDED.items():
            if name in report.keywords:
                terminalreporter.write_line(f"NOT RUN (needs {what}): {report.nodeid}")
    other = _unexpected(skipped)
    if other and os.environ.get("ONESENSE_FAIL_ON_SKIP"):
        terminalreporter.write_line(
            f"FAILED: skipped although CI has what they need: {', '.join(other)}", red=True
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """See ``pytest_terminal_summary``."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("ONESENSE_FAIL_ON_SKIP"):
        return
    if _unexpected(reporter.stats.get("skipped", [])):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
