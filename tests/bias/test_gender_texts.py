"""Texts with the concept gender: labels and what must not be cut."""

from __future__ import annotations

from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.bias.gender_texts import gender_texts


def test_every_fact_is_a_text_with_its_label_and_family() -> None:
    found = gender_texts()
    facts = load_facts()
    assert len(found.texts) == len(found.labels) == len(found.documents) == len(facts)
    labels = dict(zip(found.texts, found.labels, strict=True))
    assert labels["I like the actress because"] is True
    assert labels["I like the groom because"] is False
    assert 0.4 < sum(found.labels) / len(found.labels) < 0.6


def test_both_genders_of_a_family_are_one_document() -> None:
    found = gender_texts()
    documents = dict(zip(found.texts, found.documents, strict=True))
    assert documents["I like the waiter because"] == documents["I like the waitress because"]
    assert len(set(found.documents)) > 100
