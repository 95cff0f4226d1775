"""What is said of a feature: effects, tokens and prompts, against numbers computed another way."""

from __future__ import annotations

from math import comb, nan, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from onesense.debias.contrasts import Contrast
from onesense.debias.describe import describe, strongest
from onesense.debias.find import Found
from onesense.debias.selection import Evidence
from onesense.model.language_model import LanguageModel
from small_recipes import dictionary_at

POINTS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
FEATURES = 96  # 48 at each
PEOPLE = ("nurse", "baker", "pilot", "clerk", "cook")
TEMPLATES = ("The {} said that", "A {} hurt")


def _contrasts() -> tuple[Contrast, ...]:
    return tuple(
        Contrast(template.format(person), "she", "he", person, person, template, 0)
        for template in TEMPLATES
        for person in PEOPLE
    )


def _found(**changes: Any) -> Found:
    draw = np.random.default_rng(0)
    values: dict[str, Any] = {
        "neutral": _contrasts(),
        "facts": _contrasts()[:3],
        "evidence": Evidence(
            neutral=draw.standard_normal(len(PEOPLE)),
            neutral_effects=draw.standard_normal((len(PEOPLE), FEATURES)),
            margins=draw.standard_normal(3),
            fact_effects=draw.standard_normal((3, FEATURES)),
            scores=0.1 * draw.standard_normal((4, FEATURES)),
            widths=(48, 48),
        ),
        "density": draw.uniform(0, 1, FEATURES),
        "typical": draw.uniform(0, 1, FEATURES),
        "swapped": draw.uniform(-1, 1, FEATURES),
        "allowed": np.ones(FEATURES, dtype=np.bool_),
    }
    return Found(**(values | changes))


def test_effects_are_those_of_the_column(tiny_llama: LanguageModel) -> None:
    found, column = _found(), 48 + 5
    one = describe(tiny_llama, [dictionary_at(point) for point in POINTS], found, [column])[0]
    assert (one.hook_point, one.feature) == (POINTS[1], 5)
    effects = found.evidence.neutral_effects[:, column].tolist()
    neutral = found.evidence.neutral.tolist()
    mean, other = sum(effects) / 5, sum(neutral) / 5
    variance = sum((x - mean) ** 2 for x in effects) / 5
    both = sum((x - mean) * (y - other) for x, y in zip(effects, neutral, strict=True)) / 5
    assert one.bias == pytest.approx(sqrt(variance))
    assert one.toward_women == pytest.approx(
        both / sqrt(variance * sum((y - other) ** 2 for y in neutral) / 5)
    )
    assert one.fact == pytest.approx(sum(found.evidence.fact_effects[:, column]) / 3)
    assert one.kl == pytest.approx(sum(score**2 for score in found.evidence.scores[:, column]) / 2)
    assert one.density == found.density[column]
    assert one.swapped == found.swapped[column]


def test_tokens_are_those_of_the_logit_lens(tiny_llama: LanguageModel) -> None:
    dictionary = dictionary_at(POINTS[0])
    one = describe(tiny_llama, [dictionary, dictionary_at(POINTS[1])], _found(), [7])[0]
    hf = tiny_llama.hf
    logits = hf.lm_head.weight @ (hf.model.norm.weight * dictionary.W_dec[7])
    known = len(tiny_llama.vocabulary())
    order = sorted(range(known), key=lambda token: -float(logits[token]))
    assert one.promoted == tuple(tiny_llama.token_strings(order[:8]))
    assert one.suppressed == tuple(tiny_llama.token_strings(order[:-9:-1]))


def test_prompts_are_those_it_moves_most_each_person_once(tiny_llama: LanguageModel) -> None:
    found = _found()
    found.evidence.neutral_effects[:, 3] = [0.1, -0.9, 0.0, 0.5, -0.2]
    found.evidence.neutral_effects[:, 4] = [0.0, 0.0, 0.0, 0.0, 0.3]
    found.evidence.neutral_effects[:, 5] = 0.4
    several = describe(tiny_llama, [dictionary_at(point) for point in POINTS], found, [3, 4, 5])
    assert several[0].prompts == (
        ("The baker said that", -0.9),
        ("The clerk said that", 0.5),
        ("The cook said that", -0.2),
    )
    assert several[1].prompts == (("The cook said that", 0.3),)
    assert several[2].toward_women == 0.0  # the same everywhere: no correlation
    assert several[2].bias == pytest.approx(0.0)


def test_a_latent_that_never_fired_on_swapped_text_says_so(tiny_llama: LanguageModel) -> None:
    found = _found(swapped=np.full(FEATURES, nan))
    one = describe(tiny_llama, [dictionary_at(point) for point in POINTS], found, [0])[0]
    assert one.swapped is None


def _model_of_words(words: list[str]) -> LanguageModel:
    vocabulary = {word: number for number, word in enumerate(["<s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    return LanguageModel.from_hf(LlamaForCausalLM(config).float(), fast, "words")


def test_gender_words_among_the_tokens_are_counted_against_chance() -> None:
    gendered = ["she", "Ġher", "▁Queen", "himself"]
    model = _model_of_words([*gendered, *(f"w{number}" for number in range(194))])
    dictionary = dictionary_at(POINTS[0])
    with torch.no_grad():
        weight = model.hf.lm_head.weight
        weight[2:6] = 5 * dictionary.W_dec[0]  # feature 0 promotes the gender words
        weight[2:6] -= 5 * dictionary.W_dec[1] * (dictionary.W_dec[0] @ dictionary.W_dec[1])
    found = _found()
    one = describe(model, [dictionary, dictionary_at(POINTS[1])], found, [0])[0]
    # All 4 of 200 words are among the 100 at both ends.
    assert one.gender_words == pytest.approx(comb(196, 96) / comb(200, 100))
    with torch.no_grad():
        weight[2:6] = 0
    none = describe(model, [dictionary, dictionary_at(POINTS[1])], found, [0])[0]
    assert none.gender_words == pytest.approx(1.0)


def test_the_strongest_are_allowed_have_bias_and_stand_in_order() -> None:
    found = _found(allowed=np.arange(FEATURES) != 2)
    effects = found.evidence.neutral_effects
    effects[:] = 0
    for column, height in ((2, 9.0), (60, 3.0), (7, 1.0), (1, 3.0)):
        effects[0, column] = height
    assert strongest(found, 10) == [1, 60, 7]
    assert strongest(found, 2) == [1, 60]
    assert strongest(found, 0) == []
