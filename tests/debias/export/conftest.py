"""A short text to export with, and settings of a short fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from onesense.debias.export.distillation import DistillationSettings
from onesense.debias.export.export import ExportSettings
from onesense.debias.export.texts import TextSettings
from small_recipes import PROMPTS


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = [
        {"text": f"Line {number}: the quick brown fox saw {number * 7} dogs. " * 2} for number in range(40)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def quick(text_file: Path) -> Callable[..., ExportSettings]:
    """Settings of a short fit."""

    def make(how: str = "auto", **fit: float) -> ExportSettings:
        chosen = {"rank": 4, "steps": 6, "check_every": 3, **fit}
        return ExportSettings(
            how=how,
            distillation=DistillationSettings(**chosen),  # type: ignore[arg-type]
            text=TextSettings(
                source=str(text_file), context_size=32, measured_windows=6, validation_windows=4
            ),
            prompts=PROMPTS,
        )

    return make


@pytest.fixture(scope="session")
def random_ids() -> torch.Tensor:
    ids = torch.randint(250, (3, 20), generator=torch.Generator().manual_seed(5))
    ids[:, 0] = 256
    ids[1, 9] = 257  # a special token in the middle
    return ids
