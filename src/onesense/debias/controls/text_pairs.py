"""Pairs of texts that differ only in who is meant, a woman or a man: what linear erasures are fitted on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import Fact, split_of
from onesense.bias.benchmarks.occupations import load_occupations
from onesense.bias.benchmarks.own import packaged_table
from onesense.errors import ConfigurationError
from onesense.text.corpus import Document

# “he'd” is two words here, so that its first is found.
_WORD = re.compile(r"\w+(?:-\w+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_MOST_WORDS_APART = 3
_SHORTEST, _LONGEST = 5, 40
# “her” is “him” or “his” of a man, so it is written for a man's word and never read as a woman's.
_PRONOUNS = (("she", "he"), ("herself", "himself"))
_INTO_WOMEN_ONLY = (("her", "him"), ("her", "his"))
_UNCLEAR = frozenset({"her", "hers"})
# Words of gender that are not swapped: a sentence with one of them would keep it beside the new pronoun.
_UNSWAPPED = frozenset(
    (
        *("female", "females", "male", "males", "guy", "guys", "sir", "madam", "mr", "mrs", "ms", "miss"),
        *("women", "men", "girls", "boys", "ladies", "gentlemen"),
    )
)


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts with the same number of words.

    Attributes:
        woman: The text about a woman.
        man: The same text about a man.
        family: What must not be cut when some pairs are held back: pairs about one word.
    """

    woman: str
    man: str
    family: str

    @property
    def words_apart(self) -> list[tuple[int, int]]:
        """Where the words that differ end, in characters of the woman's and the man's text."""
        women, men = list(_WORD.finditer(self.woman)), list(_WORD.finditer(self.man))
        if len(women) != len(men):
            return []
        return [(one.end(), other.end()) for one, other in zip(women, men, strict=True) if one[0] != other[0]]


def fact_pairs(facts: Sequence[Fact]) -> list[TextPair]:
    """The gender facts that come as a pair: one beginning of a sentence, about a woman and about a man.

    A fact without a counterpart (the friar) is left out, so that both genders have as many texts.

    Args:
        facts: Facts of the tune split, in the order of ``load_facts``.

    Raises:
        ConfigurationError: A fact is held out, or no fact has a counterpart.
    """
    held_out = [fact for fact in facts if fact.split is Split.GUARD]
    if held_out:
        raise ConfigurationError(
            f"{len(held_out)} gender facts are held out, such as {held_out[0].prompt!r}: nothing is fitted on "
            "them.",
            hint="Take load_facts(Split.TUNE).",
        )
    pairs = [pair for women, men in _neighbours(facts) for pair in _paired(women, men)]
    if not pairs:
        raise ConfigurationError(
            "No gender fact has a counterpart of the other gender.",
            hint="Take load_facts(Split.TUNE) in its order.",
        )
    return pairs


def swapped_sentences(documents: Iterable[Document], *, limit: int | None = None) -> list[TextPair]:
    """Sentences of a text, each with its twin of the other gender, made by swapping words one for one.

    Pronouns and the words of the tune split are swapped (mother, father). Left out are sentences whose twin
    is not certain: with words of both genders, with “her” for a woman (“him” or “his”), with names, and with
    words of gender that are not swapped; and those that name a held-out occupation.

    Args:
        documents: The text; ``documents_outside_audits`` gives what no audit is scored on.
        limit: Stop after so many pairs.
    """
    to_men, to_women = _swaps()
    refused = _refused() - to_men.keys() - to_women.keys()
    pairs: dict[TextPair, None] = {}
    for document in documents:
        for sentence in _sentences(document.text):
            pair = _twin(sentence, to_men, to_women, refused)
            if pair is not None:
                pairs[pair] = None
            if limit is not None and len(pairs) >= limit:
                return list(pairs)
    return list(pairs)


def shuffled_pairs(pairs: Sequence[TextPair], seed: int) -> list[TextPair]:
    """The same pairs with woman and man exchanged in half of the families: labels that mean nothing.

    Whole families are exchanged, because the sentences about one word are no independent draws.

    Args:
        pairs: The pairs.
        seed: Which half.
    """
    families = sorted({pair.family for pair in pairs})
    drawn = np.random.default_rng(seed).permutation(len(families))[: len(families) // 2]
    exchanged = {families[number] for number in drawn}
    return [
        TextPair(pair.man, pair.woman, pair.family) if pair.family in exchanged else pair for pair in pairs
    ]


def _neighbours(facts: Sequence[Fact]) -> Iterator[tuple[list[Fact], list[Fact]]]:
    """The facts of a woman, and those of the man of the same row, which follow them."""
    runs = [list(run) for _, run in groupby(facts, key=lambda fact: (fact.group, fact.family, fact.woman))]
    for women, men in pairwise(runs):
        same = (women[0].group, women[0].family) == (men[0].group, men[0].family)
        if same and women[0].woman and not men[0].woman and len(women) == len(men):
            yield women, men


def _paired(women: Sequence[Fact], men: Sequence[Fact]) -> Iterator[TextPair]:
    for woman, man in zip(women, men, strict=True):
        pair = TextPair(woman.prompt, man.prompt, f"{woman.group}:{woman.family}")
        if (woman.right, woman.wrong) == (man.wrong, man.right) and (
            1 <= len(pair.words_apart) <= _MOST_WORDS_APART
        ):
            yield pair


def _swaps() -> tuple[dict[str, str], dict[str, str]]:
    """What a woman's word becomes, and what a man's word becomes."""
    rows = packaged_table("gender_words.tsv", ("group", "family", "women", "men"))
    nouns = [
        (_noun(row["women"]), _noun(row["men"]))
        for row in rows
        if row["group"] in ("definitional", "kinship") and split_of(row["family"]) is Split.TUNE
    ]
    certain = [*_PRONOUNS, *((woman, man) for woman, man in nouns if woman and man)]
    return dict(certain), {man: woman for woman, man in (*certain, *_INTO_WOMEN_ONLY)}


def _refused() -> set[str]:
    """Words that keep a sentence out: of gender, whatever their split, and of held-out occupations."""
    rows = packaged_table("gender_words.tsv", ("women", "men"))
    gendered = {words.split()[-1].lower() for row in rows for words in (row["women"], row["men"]) if words}
    held_out = load_occupations(Split.HELD_OUT)
    named = {occupation.name.split()[-1].lower() for occupation in held_out}
    return gendered | named | {occupation.group.lower() for occupation in held_out} | _UNSWAPPED


def _noun(words: str) -> str:
    """The noun of “the waiter”; empty where it is not a single word in small letters."""
    noun = words.partition(" ")[2]
    return noun if _WORD.fullmatch(noun) and noun.islower() else ""


def _sentences(text: str) -> Iterator[str]:
    for line in text.splitlines():
        for sentence in _SENTENCE_END.split(line.strip()):
            if _SHORTEST <= len(_WORD.findall(sentence)) <= _LONGEST:
                yield sentence


def _twin(
    sentence: str, to_men: dict[str, str], to_women: dict[str, str], refused: set[str]
) -> TextPair | None:
    words = _WORD.findall(sentence)
    if any(word[:1].isupper() and not word.startswith("I") for word in words[1:]):
        return None
    small = {word.lower() for word in words}
    if small & refused:
        return None
    about_woman = bool(small & (to_men.keys() | _UNCLEAR))
    about_man = bool(small & to_women.keys())
    if about_woman == about_man or (about_woman and small & _UNCLEAR):
        return None
    swaps = to_men if about_woman else to_women

    def swapped(match: re.Match[str]) -> str:
        other = swaps.get(match[0].lower(), match[0])
        return other.capitalize() if match[0][:1].isupper() else other

    twin = _WORD.sub(swapped, sentence)
    return TextPair(sentence, twin, sentence) if about_woman else TextPair(twin, sentence, sentence)
