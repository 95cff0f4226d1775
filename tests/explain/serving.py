"""A real OpenAI-compatible endpoint: ``transformers serve`` with the demo model, on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onesense.model.language_model import LanguageModel

_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class ServedModel:
    """What a test has to know of the server.

    Attributes:
        base_url: For clients; ends with ``/v1``.
        model: Name of the model: the server answers to no other.
        log: What the server writes.
    """

    base_url: str
    model: str
    log: Path


@contextmanager
def served(model: LanguageModel, folder: Path) -> Iterator[ServedModel]:
    """Serve a model from a process of its own, for as long as the block lasts.

    The server knows no GGUF file outside a repository: it is given the folder of plain weights, tokenizer and chat
    template that the model was loaded from, as onesense keeps it of the demo model.

    Args:
        model: What to serve; loaded from a folder.
        folder: For the server's log.
    """
    weights = Path(model.hf.name_or_path)
    if not (weights / "config.json").is_file():
        raise RuntimeError(f"The model was not loaded from a folder but from {weights}.")
    port = _free_port()
    log = folder / "serve.log"
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(weights)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "warning",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for_health(process, f"http://127.0.0.1:{port}/health", log)
        yield ServedModel(f"http://127.0.0.1:{port}/v1", str(weights), log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_health(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"The server ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"The server does not answer: {log.read_text()[-2000:]}")
