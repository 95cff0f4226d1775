"""The whole of extract on tiny models: files, resume, refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from onesense.errors import IncompatibleError, SelfCheckError
from onesense.features.contexts import ContextSettings
from onesense.features.extract import ExtractSettings, extract, write_original_json
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.unembedding import unembedding
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.store.catalog import Catalog

SMALL = ContextSettings(context_size=32, top_k=3, windows_per_shard=20)


def perfect_dictionary(seed: int = 0, width: int = 32) -> Dictionary:
    """Reconstructs anything: a random rotation and its negative."""
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    return Dictionary(
        architecture=Architecture.RELU,
        hook_point=HookPoint(1, "hook_resid_post"),
        W_enc=torch.cat([rotation, -rotation], dim=1),
        b_enc=torch.zeros(2 * width),
        W_dec=torch.cat([rotation.T, -rotation.T]),
        b_dec=torch.zeros(width),
    )


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"Line {i}: the quick brown fox. " * 4}) + "\n" for i in range(40))
    )
    return str(path)


def settings(text: str, **changes: object) -> ExtractSettings:
    values: dict[str, object] = {"text": text, "contexts": SMALL, "check": False, "dtype": "float32"}
    return ExtractSettings(**(values | changes))  # type: ignore[arg-type]


def test_a_run_holds_everything(tiny_gpt2: LanguageModel, text: str, tmp_path: Path) -> None:
    dictionary = perfect_dictionary()
    extraction = extract(tiny_gpt2, dictionary, tmp_path / "run", settings(text))
    logits = (dictionary.W_dec @ unembedding(tiny_gpt2)).double().numpy()
    np.testing.assert_allclose(extraction.lens.std, logits.std(axis=1), rtol=1e-5)
    np.testing.assert_allclose(extraction.lens.skewness, stats.skew(logits, axis=1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        extraction.lens.kurtosis, stats.kurtosis(logits, axis=1, fisher=False), rtol=1e-4
    )
    assert extraction.contexts is not None
    np.testing.assert_allclose(extraction.sparsity, np.log10(extraction.contexts.density + 1e-10))
    with Catalog(extraction.run.catalog_path, read_only=True) as catalog:
        assert catalog.count() == 64
        row = catalog.feature(5)
    assert row.density == pytest.approx(extraction.contexts.density[5])
    assert row.top_tokens[0] == tiny_gpt2.token_strings([int(extraction.lens.top_ids[5, 0])])[0]
    busiest = int(extraction.contexts.count.argmax())
    context = extraction.contexts.top(busiest)[0]
    assert context.activation == pytest.approx(float(extraction.contexts.maximum[busiest]))


def test_the_originals_json(tiny_gpt2: LanguageModel, text: str, tmp_path: Path) -> None:
    extraction = extract(
        tiny_gpt2, perfect_dictionary(), tmp_path / "run", settings(text, with_contexts=False)
    )
    write_original_json(extraction, tmp_path / "out.json")
    rows = json.loads((tmp_path / "out.json").read_text())
    assert len(rows) == 64
    assert list(rows[3]) == [
        "feature",
        "mean",
        "std",
        "skewness",
        "kurtosis",
        "sparsity",
        "top_activated_words",
    ]
    assert rows[3]["feature"] == 3
    assert rows[3]["sparsity"] is None
    assert rows[3]["top_activated_words"] == " ".join(extraction.lens.words(3, tiny_gpt2.vocabulary()))


def test_other_settings_are_refused_in_the_same_folder(
    tiny_gpt2: LanguageModel, text: str, tmp_path: Path
) -> None:
    extract(tiny_gpt2, perfect_dictionary(), tmp_path / "run", settings(text, with_contexts=False))
    with pytest.raises(IncompatibleError, match="top_k"):
        extract(
            tiny_gpt2, perfect_dictionary(), tmp_path / "run", settings(text, with_contexts=False, top_k=4)
        )
    with pytest.raises(IncompatibleError, match="dictionary"):
        extract(tiny_gpt2, perfect_dictionary(1), tmp_path / "run", settings(text, with_contexts=False))


def test_the_self_check_stops_a_wrong_dictionary(tiny_gpt2: LanguageModel, text: str, tmp_path: Path) -> None:
    good = perfect_dictionary()
    wrong = Dictionary(
        architecture=good.architecture,
        hook_point=good.hook_point,
        W_enc=good.W_enc,
        b_enc=good.b_enc - 1e3,
        W_dec=good.W_dec,
        b_dec=good.b_dec,
    )
    with pytest.raises(SelfCheckError):
        extract(tiny_gpt2, wrong, tmp_path / "run", settings(text, check=True))
    assert not (tmp_path / "run").exists()
    forced = extract(tiny_gpt2, wrong, tmp_path / "run", settings(text, check=True, force=True))
    assert forced.run.configuration["self_check"] == "failed, forced"


CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r}); sys.path.insert(0, {tests!r} + "/features")
from pathlib import Path
from tiny_models import make_byte_tokenizer, tiny_hf
from onesense.model.language_model import LanguageModel
from onesense.store import run_folder
import test_extract as t
model = LanguageModel.from_hf(tiny_hf("gpt2"), make_byte_tokenizer(), "tiny-gpt2")
left = {stage}
real = os.replace
def replace(*arguments, **keywords):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **keywords)
os.replace = replace
t.extract(model, t.perfect_dictionary(), Path({folder!r}), t.settings({text!r}))
"""


def test_killed_at_every_stage_it_ends_in_the_same_bytes(
    tiny_gpt2: LanguageModel, text: str, tmp_path: Path
) -> None:
    whole = extract(tiny_gpt2, perfect_dictionary(), tmp_path / "whole", settings(text)).run.path
    expected = {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    folder = tmp_path / "killed"
    kills = 0
    for stage in (0, 1, 2, 4, 7):
        code = CHILD.format(tests=str(Path(__file__).parents[1]), stage=stage, folder=str(folder), text=text)
        done = subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ))
        kills += done.returncode == -signal.SIGKILL
    assert kills >= 3
    extract(tiny_gpt2, perfect_dictionary(), folder, settings(text))
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name] and name.name != ".lock"] == []
