"""Texts before and after: made in one batch, and the same as each prompt by itself."""

from __future__ import annotations

import pytest

from onesense.debias.continuations import continuations
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Operation
from onesense.steer.generate import generate
from onesense.steer.sampling import Sampling
from small_recipes import group_of

PROMPTS = ("The nurse was late because", "My grandmother called, and", "A")


def test_each_prompt_goes_on_as_it_would_by_itself(tiny_llama: LanguageModel) -> None:
    groups = [group_of("blocks.1.hook_resid_post", Operation.SCALE, 4.0)]
    told: list[tuple[int, int]] = []
    made = continuations(
        tiny_llama, groups, PROMPTS, seed=5, report=lambda done, total: told.append((done, total))
    )
    assert [one.prompt for one in made] == list(PROMPTS)
    assert told == [(3, 3)]
    for one in made:
        alone = generate(
            tiny_llama,
            one.prompt,
            groups,
            samples=2,
            max_new_tokens=24,
            sampling=Sampling(temperature=0.7),
            seed=5,
        )
        assert (one.before, one.after) == (alone.unsteered[0].text, alone.steered[0].text)
    assert any(one.before != one.after for one in made)


def test_an_empty_prompt_is_refused(tiny_llama: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="The prompt is empty"):
        continuations(tiny_llama, [], ("A nurse", " "), seed=0, report=lambda _done, _total: None)
