"""Texts that tell whether a person is a woman or a man, for measures that take a labelled concept."""

from __future__ import annotations

from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.senses.field_metrics.all_metrics import LabelledTexts


def gender_texts() -> LabelledTexts:
    """The beginnings of the packaged gender facts, true where the person is a woman.

    Words of one family (actor and actress, brother and sister) are one document, so none is fitted on and scored.
    """
    facts = load_facts()
    return LabelledTexts(
        "gender",
        texts=[fact.prompt for fact in facts],
        labels=[fact.woman for fact in facts],
        documents=[fact.family for fact in facts],
    )
