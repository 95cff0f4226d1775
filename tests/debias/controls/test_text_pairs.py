"""Pairs of texts: only from the tune split, and only where the twin is certain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import Fact, load_facts, split_of
from onesense.bias.benchmarks.occupations import load_occupations
from onesense.debias.controls.text_pairs import TextPair, fact_pairs, shuffled_pairs, swapped_sentences
from onesense.errors import ConfigurationError
from onesense.text.corpus import Document, read_documents


def _swapped(text: str) -> list[tuple[str, str]]:
    return [(pair.woman, pair.man) for pair in swapped_sentences([Document(0, "a text", text)])]


def test_facts_of_the_tune_split_become_pairs() -> None:
    pairs = fact_pairs(load_facts(Split.TUNE))
    assert len(pairs) > 150
    assert all(1 <= len(pair.words_apart) <= 3 for pair in pairs)
    assert TextPair("I like my mother because", "I like my father because", "kinship:parent") in fact_pairs(
        [fact for fact in _relabelled() if fact.family == "parent"]
    )
    families = {pair.family.partition(":")[2] for pair in pairs}
    assert all(split_of(family) is Split.TUNE for family in families)


def _relabelled() -> list[Fact]:
    """All facts, as if none were held out."""
    return [replace(fact, split=Split.TUNE) for fact in load_facts()]


def test_every_row_with_both_genders_gives_its_pairs() -> None:
    facts = _relabelled()
    pairs = fact_pairs(facts)
    kinship = [fact for fact in facts if fact.group == "kinship"]
    assert sum(pair.family.startswith("kinship:") for pair in pairs) == len(kinship) // 2
    antecedents = [fact for fact in facts if fact.group == "antecedents"]
    assert sum(pair.family.startswith("antecedents:") for pair in pairs) == len(antecedents) // 2


@pytest.mark.parametrize("split", [Split.GUARD, None])
def test_a_held_out_fact_is_refused(split: Split | None) -> None:
    with pytest.raises(ConfigurationError, match="held out") as caught:
        fact_pairs(load_facts(split))
    assert "TUNE" in str(caught.value.hint)


def test_facts_of_one_gender_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="counterpart"):
        fact_pairs([fact for fact in load_facts(Split.TUNE) if fact.woman])


def test_words_apart_end_where_the_words_end() -> None:
    pair = TextPair("My aunt, who lost her keys.", "My uncle, who lost his keys.", "x")
    assert [(pair.woman[:a], pair.man[:b]) for a, b in pair.words_apart] == [
        ("My aunt", "My uncle"),
        ("My aunt, who lost her", "My uncle, who lost his"),
    ]
    assert TextPair("the old queen said", "the king said", "x").words_apart == []


@pytest.mark.parametrize(
    ("sentence", "twin"),
    [
        ("He gave them his coat and left.", "She gave them her coat and left."),
        ("They saw him at the window today.", "They saw her at the window today."),
        ("Then he'd gone home by himself again.", "Then she'd gone home by herself again."),
    ],
)
def test_a_man_s_sentence_becomes_a_woman_s(sentence: str, twin: str) -> None:
    assert _swapped(sentence) == [(twin, sentence)]


def test_a_woman_s_sentence_becomes_a_man_s() -> None:
    sentence = "In the end she did it herself."
    assert _swapped(sentence) == [(sentence, "In the end he did it himself.")]


@pytest.mark.parametrize(
    "sentence",
    [
        "She gave them her coat and left.",  # him or his
        "She said that he was late again.",  # both
        "Yesterday he met Anna at the station.",  # a name
        "The men said that he was late.",  # a word that is not swapped
        "The weather was cold and very wet.",  # nobody
        "He left again.",  # too short
    ],
)
def test_a_sentence_whose_twin_is_not_certain_is_left_out(sentence: str) -> None:
    assert _swapped(sentence) == []


def test_no_held_out_occupation_and_no_held_out_word_of_gender_gets_in() -> None:
    pairs = swapped_sentences(read_documents())
    assert len(pairs) > 300
    used = {word for pair in pairs for word in pair.woman.lower().replace(".", " ").split()}
    assert not used & {one.name for one in load_occupations(Split.HELD_OUT)}
    assert not used & {"queen", "king", "female", "male"}
    held_out = load_occupations(Split.HELD_OUT)[0].name
    assert _swapped(f"He said that the {held_out} was late.") == []
    assert len(swapped_sentences(read_documents(), limit=7)) == 7


def test_shuffled_pairs_exchange_half_of_the_families() -> None:
    pairs = fact_pairs(load_facts(Split.TUNE))
    shuffled = shuffled_pairs(pairs, seed=1)
    exchanged = {one.family for one, new in zip(pairs, shuffled, strict=True) if one != new}
    assert len(exchanged) == len({pair.family for pair in pairs}) // 2
    for one, new in zip(pairs, shuffled, strict=True):
        expected = (one.man, one.woman) if one.family in exchanged else (one.woman, one.man)
        assert (new.woman, new.man) == expected
    assert shuffled_pairs(pairs, seed=1) == shuffled
    assert shuffled_pairs(pairs, seed=2) != shuffled
