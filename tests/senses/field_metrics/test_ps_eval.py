"""PS-Eval: its measures against scikit-learn, silent latents, and the right token of a real model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, recall_score

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.model.capture import capture
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text, pad_batch
from onesense.senses.field_metrics.ps_eval import SILENT, ps_eval, ps_eval_of, strongest_latents
from onesense.senses.field_metrics.word_pairs import WordPair
from tiny_dictionaries import random_dictionary

PAIRS = [
    WordPair.of("bank", "The bank lent money.", "They sat on the bank of the river.", "different"),
    WordPair.of("cell", "A cell divides.", "Each cell has a wall.", "same"),
    WordPair.of("light", "Light fell in.", "The bag is light", "different"),
    WordPair.of("plant", "The plant grew; no other plant did.", "Water the plant!", "same"),
]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_measures_are_those_of_scikit_learn(rows: list[tuple[bool, bool]]) -> None:
    told, truth = (np.array([row[column] for row in rows]) for column in (0, 1))
    strongest = np.column_stack([np.full(len(rows), 3), np.where(told, 3, 8)])
    words = [number % 5 for number in range(len(rows))]
    if len(set(truth)) < 2:
        with pytest.raises(ConfigurationError, match="both kinds"):
            ps_eval(strongest, truth, words)
        return
    found = ps_eval(strongest, truth, words, draws=20)
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, told, average="binary", zero_division=np.nan
    )
    assert found.accuracy.value == pytest.approx(accuracy_score(truth, told))
    assert found.precision.value == pytest.approx(precision, nan_ok=True)
    assert found.recall.value == pytest.approx(recall)
    assert found.specificity.value == pytest.approx(recall_score(~truth, ~told))
    assert found.f1.value == pytest.approx(f1)
    assert (found.pairs, found.silent) == (len(rows), 0)


def test_chance_is_within_the_intervals_and_perfection_is_one() -> None:
    generator = np.random.default_rng(0)
    truth = np.arange(400) % 2 == 0
    words = (np.arange(400) // 4).tolist()
    coin = np.column_stack([np.zeros(400, int), generator.integers(0, 2, 400)])
    found = ps_eval(coin, truth, words)
    for estimate in (found.accuracy, found.precision, found.recall, found.specificity):
        assert estimate.low < 0.5 < estimate.high
    perfect = ps_eval(np.column_stack([np.zeros(400, int), ~truth]).astype(int), truth, words)
    assert perfect.f1.low == perfect.f1.high == perfect.specificity.value == 1
    assert perfect.words == 100


def test_pairs_of_one_word_are_drawn_together() -> None:
    generator = np.random.default_rng(1)
    told = generator.integers(0, 2, 60)
    truth = np.arange(60) % 2 == 0
    strongest = np.column_stack([np.zeros(60, int), told])
    once = ps_eval(strongest, truth, list(range(60))).accuracy
    five = ps_eval(
        np.repeat(strongest, 5, axis=0), np.repeat(truth, 5), np.repeat(np.arange(60), 5).tolist()
    ).accuracy
    assert (five.low, five.high) == pytest.approx((once.low, once.high))


def test_silent_words_are_left_out_and_counted() -> None:
    strongest = [[1, 1], [1, 2], [SILENT, SILENT], [SILENT, 4], [3, 3]]
    found = ps_eval(strongest, [1, 0, 1, 0, 1], ["a", "b", "c", "d", "e"])
    assert (found.pairs, found.words, found.silent, found.accuracy.value) == (3, 3, 2, 1)


def test_the_strongest_latent() -> None:
    latents = torch.tensor([[0, 3, 3, 1.0], [0, 0, 0, 0], [0, 0, 0, 0.1]])
    assert strongest_latents(latents).tolist() == [1, SILENT, 3]
    with pytest.raises(NumericalError):
        strongest_latents(latents * torch.nan)


def test_bad_input_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="3 words"):
        ps_eval([[1, 2]], [1], ["a", "b", "c"])
    with pytest.raises(ConfigurationError, match="NaN"):
        ps_eval([[1.0, np.nan], [1.0, 2.0]], [1, 0], ["a", "b"])
    with pytest.raises(ConfigurationError, match="1 word"):
        ps_eval([[1, 2], [1, 1]], [1, 0], ["a", "a"])
    with pytest.raises(ConfigurationError, match="0 pairs"):
        ps_eval(np.empty((0, 2), int), [], [])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_last_token_of_the_word_is_read_in_each_sentence_as_it_is_alone(
    family: str, tiny_model: Callable[[str], LanguageModel]
) -> None:
    model = tiny_model(family)
    dictionary = random_dictionary(d_in=32, d_sae=48)
    expected = []
    for pair in PAIRS:
        for sentence, end in zip(pair.sentences, pair.ends, strict=True):
            # one token is one byte, after the BOS
            alone = capture(model, pad_batch(model, [encode_text(model, sentence)]), [dictionary.hook_point])
            latents = dictionary.encode(alone[dictionary.hook_point][0, end])
            expected.append(int(latents.argmax()) if latents.max() > 0 else SILENT)
    same = [pair.same for pair in PAIRS]
    words = [pair.word for pair in PAIRS]
    strongest = np.array(expected).reshape(-1, 2)
    # as text, because NaN (no pair with one latent) differs from itself
    direct = ps_eval(strongest, same, words)
    assert repr(ps_eval_of(model, dictionary, PAIRS)) == repr(direct)


def test_words_beyond_the_context_are_left_out(tiny_llama: LanguageModel) -> None:
    dictionary = random_dictionary(d_in=32, d_sae=48)
    plain = ps_eval_of(tiny_llama, dictionary, PAIRS)
    far = WordPair.of("key", "x " * 70 + "key", "A key.", "same")
    late = WordPair.of("pen", "A pen" + " x" * 70, "A pen.", "same")
    assert repr(ps_eval_of(tiny_llama, dictionary, [*PAIRS, far])) == repr(replace(plain, too_long=1))
    assert ps_eval_of(tiny_llama, dictionary, [*PAIRS, late]).pairs == plain.pairs + 1


def test_a_dictionary_of_another_width_is_refused(tiny_llama: LanguageModel) -> None:
    with pytest.raises(IncompatibleError, match="32 wide"):
        ps_eval_of(tiny_llama, random_dictionary(d_in=12), PAIRS)
    with pytest.raises(ConfigurationError):
        ps_eval_of(tiny_llama, random_dictionary(d_in=32), [])
