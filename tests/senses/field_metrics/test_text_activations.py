"""One row for each text: the right tokens, independent of the neighbours."""

from __future__ import annotations

import pytest
import torch

from onesense.errors import ConfigurationError, HookPointError, IncompatibleError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text, pad_batch
from onesense.senses.field_metrics.text_activations import Pooling, text_activations
from tiny_dictionaries import random_dictionary

TEXTS = ["My aunt lost her keys.", "He came.", "The weather was cold, and they stayed at home."]


def alone(model: LanguageModel, text: str, point: HookPoint) -> torch.Tensor:
    """Activations of a text without its BOS and without outliers."""
    found = capture(model, pad_batch(model, [encode_text(model, text)]), [point])[point][0, 1:]
    norms = found.norm(dim=-1)
    return found[norms <= 5 * norms.median()]


@pytest.mark.parametrize("pooling", list(Pooling))
def test_rows_are_pooled_over_the_tokens_that_count(pooling: Pooling, tiny_gpt2: LanguageModel) -> None:
    dictionary = random_dictionary(d_in=32)
    found = text_activations(tiny_gpt2, dictionary, TEXTS, pooling=pooling)
    assert found.cut == 0
    for row, text in enumerate(TEXTS):
        tokens = alone(tiny_gpt2, text, dictionary.hook_point)
        for values, rows in ((tokens, found.channels), (dictionary.encode(tokens), found.latents)):
            expected = {
                Pooling.MEAN: values.mean(0),
                Pooling.MAX: values.amax(0),
                Pooling.LAST: values[-1],
            }[pooling]
            torch.testing.assert_close(rows[row], expected, atol=1e-4, rtol=1e-4)


def test_neighbours_and_order_change_nothing(tiny_llama: LanguageModel) -> None:
    dictionary = random_dictionary(d_in=32)
    many = [*TEXTS, *(f"{'word ' * (number % 9)}text" for number in range(20))]
    told: list[tuple[int, int]] = []
    found = text_activations(tiny_llama, dictionary, many, progress=lambda *done: told.append(done))
    for row in (0, 1, 2, 15):
        single = text_activations(tiny_llama, dictionary, [many[row]])
        torch.testing.assert_close(found.latents[row], single.latents[0], atol=1e-4, rtol=1e-4)
    assert told == [(16, 23), (23, 23)]


def test_of_a_text_that_is_too_long_the_beginning_counts(tiny_llama: LanguageModel) -> None:
    dictionary = random_dictionary(d_in=32)
    long = "abc " * 100
    found = text_activations(tiny_llama, dictionary, [long, TEXTS[0]])
    beginning = text_activations(tiny_llama, dictionary, [long[:127]])
    assert (found.cut, beginning.cut) == (1, 0)
    torch.testing.assert_close(found.latents[0], beginning.latents[0], atol=1e-4, rtol=1e-4)


def test_bad_input_is_refused(tiny_llama: LanguageModel) -> None:
    dictionary = random_dictionary(d_in=32)
    with pytest.raises(ConfigurationError, match="no text"):
        text_activations(tiny_llama, dictionary, [])
    with pytest.raises(ConfigurationError, match="Text 2 of 2"):
        text_activations(tiny_llama, dictionary, ["one", ""])
    with pytest.raises(IncompatibleError, match="32 wide"):
        text_activations(tiny_llama, random_dictionary(), TEXTS)
    with pytest.raises(HookPointError):
        text_activations(
            tiny_llama, random_dictionary(d_in=32, hook_point=HookPoint(9, "hook_resid_post")), TEXTS
        )
