"""The three parts of a text share no document, and the default prompts are of the tuning split."""

from __future__ import annotations

from pathlib import Path

import pytest

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.bias.benchmarks.occupations import load_occupations
from onesense.debias.export.texts import TextSettings, default_prompts, read_prompts, read_text
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import TokenBatch
from small_recipes import PROMPTS


def rows_of(batches: list[TokenBatch]) -> set[tuple[int, ...]]:
    return {
        tuple(row[mask == 1].tolist())
        for batch in batches
        for row, mask in zip(batch.ids, batch.attention_mask, strict=True)
    }


def test_the_parts_are_disjoint_and_as_long_as_asked(tiny_llama: LanguageModel, text_file: Path) -> None:
    settings = TextSettings(
        source=str(text_file), context_size=32, fit_windows=20, validation_windows=5, measured_windows=7
    )
    text = read_text(tiny_llama, settings, rows=3)
    parts = [rows_of(batches) for batches in (text.fit, text.validation, text.measured)]
    assert [len(part) for part in parts] == [20, 5, 7]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert all(row[0] == 256 for part in parts for row in part)


def test_prompts_are_split_too(tiny_llama: LanguageModel) -> None:
    text = read_prompts(tiny_llama, PROMPTS, rows=4)
    parts = [rows_of(batches) for batches in (text.fit, text.validation, text.measured)]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert read_prompts(tiny_llama, [], rows=4).fit == []
    with pytest.raises(ConfigurationError, match="too few"):
        read_prompts(tiny_llama, PROMPTS[:5], rows=4)


def test_no_held_out_prompt_is_fitted_to() -> None:
    prompts = default_prompts()
    assert len(prompts) > 1000
    held_out = {fact.prompt for fact in load_facts(Split.GUARD)}
    assert not held_out & set(prompts)
    names = [one.name for one in load_occupations(Split.HELD_OUT)]
    tuned = {one.name for one in load_occupations(Split.TUNE)}
    shared = [name for name in names if any(f" {name} " in prompt for prompt in prompts)]
    assert all(any(name in other for other in tuned) for name in shared)


def test_a_short_text_is_refused(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("Too short.")
    with pytest.raises(ConfigurationError, match="too few"):
        read_text(tiny_llama, TextSettings(source=str(path)), rows=2)
