"""Activations of pairs: the right tokens, in the right order, from each text as it is alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.debias.controls.activations import (
    LabelledActivations,
    activations_of_pairs,
    labelled_activations,
    mean_activations,
)
from onesense.debias.controls.text_pairs import TextPair, fact_pairs
from onesense.errors import ConfigurationError, HookPointError, IncompatibleError, NumericalError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text, pad_batch
from onesense.text.corpus import Document

POINTS = [HookPoint(0, "hook_resid_post"), HookPoint(2, "mlp.hook_post")]
PAIRS = [
    TextPair("My aunt, who lost her keys.", "My uncle, who lost his keys.", "aunt"),
    TextPair("Here comes the bride", "Here comes the groom", "bride"),
    TextPair("They know my sister so", "They know my brother so", "sibling"),
]


def _alone(model: LanguageModel, text: str, point: HookPoint) -> torch.Tensor:
    return capture(model, pad_batch(model, [encode_text(model, text)]), [point])[point][0]


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
@pytest.mark.parametrize("point", POINTS)
def test_rows_are_the_words_that_differ_and_the_last_token(
    family: str, point: HookPoint, tiny_model: Callable[[str], LanguageModel]
) -> None:
    model = tiny_model(family)
    found = activations_of_pairs(model, POINTS, PAIRS)[point]
    assert found.families == ("aunt",) * 3 + ("bride",) + ("sibling",) * 2
    # One token is one byte, after the BOS: a word's last token is at the number of its last letter.
    women = [(0, 7), (0, 21), (0, 27), (1, 20), (2, 19), (2, 22)]
    men = [(0, 8), (0, 22), (0, 28), (1, 20), (2, 20), (2, 23)]
    for rows, places, side in ((found.women, women, "woman"), (found.men, men, "man")):
        expected = [_alone(model, getattr(PAIRS[pair], side), point)[at] for pair, at in places]
        torch.testing.assert_close(rows, torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_values_and_labels_stand_side_by_side(data: LabelledActivations) -> None:
    assert torch.equal(data.values[data.labels == 1], data.women)
    assert torch.equal(data.values[data.labels == 0], data.men)
    torch.testing.assert_close(data.mean, data.values.mean(0), atol=1e-6, rtol=1e-5)


def test_facts_and_sentences_come_together(tiny_llama: LanguageModel) -> None:
    facts = load_facts(Split.TUNE)[:12]
    alone = labelled_activations(tiny_llama, POINTS[:1], facts)[POINTS[0]]
    more = labelled_activations(tiny_llama, POINTS[:1], facts, sentences=PAIRS)[POINTS[0]]
    assert len(alone.families) == 2 * len(fact_pairs(facts))
    assert more.families == alone.families + ("aunt",) * 3 + ("bride",) + ("sibling",) * 2


def test_a_held_out_fact_is_refused(tiny_llama: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="held out"):
        labelled_activations(tiny_llama, POINTS, [*load_facts(Split.TUNE)[:4], *load_facts(Split.GUARD)[:1]])


def test_pairs_longer_than_the_context_are_left_out(tiny_llama: LanguageModel) -> None:
    long = TextPair("x" * 200 + " she", "x" * 200 + " he", "long")
    found = activations_of_pairs(tiny_llama, POINTS[:1], [long, *PAIRS])[POINTS[0]]
    assert "long" not in found.families
    with pytest.raises(ConfigurationError, match="too few"):
        activations_of_pairs(tiny_llama, POINTS[:1], [long])


def test_a_hook_point_that_does_not_exist_is_refused(tiny_llama: LanguageModel) -> None:
    with pytest.raises(HookPointError):
        activations_of_pairs(tiny_llama, [HookPoint(7, "hook_resid_post")], PAIRS)


def test_labelled_activations_are_checked(data: LabelledActivations) -> None:
    with pytest.raises(IncompatibleError, match="in pairs"):
        replace(data, women=data.women[:5])
    with pytest.raises(IncompatibleError, match="families"):
        replace(data, families=("one",))
    with pytest.raises(NumericalError):
        replace(data, women=data.women * float("nan"))


def test_the_mean_leaves_out_the_bos(tiny_llama: LanguageModel) -> None:
    text = "The weather was cold."
    found = mean_activations(tiny_llama, POINTS, [Document(0, "a text", text)])
    for point in POINTS:
        alone = _alone(tiny_llama, text, point)[1:]
        norms = alone.norm(dim=-1)
        kept = alone[norms <= 5 * norms.median()]
        torch.testing.assert_close(found[point], kept.mean(0), atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigurationError, match="no token"):
        mean_activations(tiny_llama, POINTS, [])
