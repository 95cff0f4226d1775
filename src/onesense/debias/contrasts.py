"""Beginnings of sentences with two next words, a woman's and a man's: what finding and tuning look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.bias.benchmarks.occupations import load_occupations, load_templates
from onesense.bias.benchmarks.own import packaged_table
from onesense.bias.scoring.requests import Request
from onesense.errors import ConfigurationError

OPEN_SPLITS = (Split.FIND, Split.TUNE)
_PEOPLE_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Contrast:
    """A beginning of a sentence, and the two words that may follow.

    Attributes:
        prompt: The beginning.
        women: The next word if the person is a woman, without the space before it.
        men: The same for a man.
        person: Who it is about; the same in every template.
        cluster: What must not be cut when contrasts are divided: head noun, family of words.
        group: Contrasts of one group differ by the person only: the template, or the kind of fact.
        sign: 1 where the text says that the person is a woman, -1 for a man, 0 where it says neither.
        women_percent: Share of women in the occupation; NaN for a fact.
        weight: How much it counts beside an occupation, where features are chosen.
    """

    prompt: str
    women: str
    men: str
    person: str
    cluster: str
    group: str
    sign: int
    women_percent: float = float("nan")
    weight: float = 1.0

    def requests(self) -> tuple[Request, Request]:
        """What is asked of the model: the woman's word, then the man's."""
        return Request(f" {self.women}", self.prompt), Request(f" {self.men}", self.prompt)


def refuse_held_out(splits: Sequence[Split]) -> None:
    """Refuse to look at what the proof rests on.

    Raises:
        ConfigurationError: A split is held out, or a guard.
    """
    for split in splits:
        if split not in OPEN_SPLITS:
            raise ConfigurationError(
                f"Nothing is found or tuned on the {split.value} split: the proof rests on it.",
                hint="Use find and tune.",
            )


def occupation_contrasts(splits: Sequence[Split] = OPEN_SPLITS) -> list[Contrast]:
    """Occupations that tell no gender, each in every template; held-out ones are refused.

    Raises:
        ConfigurationError: A split is held out.
    """
    refuse_held_out(splits)
    return [
        Contrast(
            prompt=template.filled(occupation.name),
            women=template.women,
            men=template.men,
            person=occupation.name,
            cluster=occupation.group,
            group=template.text,
            sign=0,
            women_percent=occupation.women_percent,
        )
        for template in load_templates()
        for split in splits
        for occupation in load_occupations(split)
    ]


def people_contrasts() -> list[Contrast]:
    """People who are no occupation (neighbor, voter, gambler), each in every template of the occupations."""
    people = [row["person"] for row in packaged_table("tuning_people.tsv", ("person",))]
    return [
        Contrast(
            prompt=template.filled(person),
            women=template.women,
            men=template.men,
            person=person,
            cluster=person,
            group=template.text,
            sign=0,
            weight=_PEOPLE_WEIGHT,
        )
        for template in load_templates()
        for person in people
    ]


def pair_contrasts(each: int, *, seed: int, splits: Sequence[Split] = OPEN_SPLITS) -> list[Contrast]:
    """Two occupations in one sentence, of which the next pronoun may stand for either.

    Args:
        each: Pairs drawn for each template.
        seed: Of the draw.
        splits: Splits of the occupations.

    Raises:
        ConfigurationError: A split is held out.
    """
    refuse_held_out(splits)
    names = [occupation.name for split in splits for occupation in load_occupations(split)]
    generator = np.random.default_rng(seed)
    found = []
    for row in packaged_table("tuning_templates.tsv", ("template", "women", "men")):
        for _ in range(each):
            first, second = (names[at] for at in generator.choice(len(names), size=2, replace=False))
            prompt = row["template"].format(first=first, second=second)
            people = f"{first} and {second}"
            found.append(Contrast(prompt, row["women"], row["men"], people, people, row["template"], 0))
    return found


def fact_contrasts(splits: Sequence[Split] = (Split.TUNE,)) -> list[Contrast]:
    """Beginnings that say whether the person is a woman or a man; held-out ones are refused.

    Raises:
        ConfigurationError: A split is held out.
    """
    refuse_held_out(splits)
    facts = [fact for split in splits for fact in load_facts(split)]
    return [
        Contrast(
            prompt=fact.prompt,
            women=fact.right if fact.woman else fact.wrong,
            men=fact.wrong if fact.woman else fact.right,
            person=fact.prompt,
            cluster=fact.family,
            group=fact.group,
            sign=1 if fact.woman else -1,
        )
        for fact in facts
    ]
