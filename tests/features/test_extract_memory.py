"""What an extraction says that it takes is what it takes; what there is no room for is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from onesense.errors import DeviceError
from onesense.features.contexts import ContextSettings
from onesense.features.extract import ExtractSettings
from onesense.features.extract_memory import MemoryEstimate, estimate_memory, require_memory
from onesense.model.language_model import LanguageModel
from onesense.sae.load import load_dictionary
from peak_memory import run_measured


def test_the_estimate_is_held_to(tmp_path: Path) -> None:
    wanted = [
        "demo",
        "--sae-release",
        "demo",
        "--sae-id",
        "blocks.15.hook_resid_post",
        "--no-check",
        "--quiet",
    ]
    command = [
        "extract",
        *wanted,
        "--max-tokens",
        "2000",
        "--dtype",
        "float32",
        "--run-folder",
        str(tmp_path / "run"),
    ]
    said, taken = run_measured(command)
    found = re.search(r"about ([\d.]+) GB of memory", said)
    assert found, said
    assert 0.6 < taken / float(found[1]) < 1.15


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"contexts": ContextSettings(top_k=200)}, "contexts"),
        ({"contexts": ContextSettings(batch_tokens=2**16)}, "activations"),
        ({"dtype": "bfloat16"}, "model"),
    ],
)
def test_more_takes_more(demo_model: LanguageModel, changes: dict[str, object], part: str) -> None:
    dictionary = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post")
    usual = ExtractSettings(dtype="float32")
    less = estimate_memory(demo_model, [dictionary], usual)
    more = estimate_memory(demo_model, [dictionary], replace(usual, **changes))  # type: ignore[arg-type]
    assert getattr(more, part) > getattr(less, part)
    without = estimate_memory(demo_model, [dictionary], replace(usual, with_contexts=False))
    assert without.contexts == without.activations == 0


def test_what_there_is_no_room_for_is_refused_unless_forced() -> None:
    huge = MemoryEstimate(10**9, 10**14, 10**12, 0, 5, 5)
    with pytest.raises(DeviceError, match=r"about 101001 GB of memory .* GB are free"):
        require_memory(huge, force=False)
    require_memory(huge, force=True)
