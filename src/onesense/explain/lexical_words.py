"""Tokens as words that people can read, and words of a feature by how much of it they carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onesense.features.enrichment import NO_TOKEN

NAMED = {
    "": "a space",
    "\n": "a line break",
    "\t": "a tab",
    "\r": "a carriage return",
    "\ufffd": "part of a character",
}
LINE_BREAKS, WHITE_SPACE = "line breaks", "white space"
_LONGEST = 24
_INFLECTIONS = ("ing", "ed", "es", "er", "e", "s")
_DOUBLING = ("ing", "ed", "er")
_SHORTEST_STEM = 3
_MOST_FORMS = 3


def readable(text: str, *, within_word: bool = False) -> str:
    """A token as people read it: no leading space, nothing invisible, ``…`` before what goes on a word."""
    text = text.removeprefix(" ")
    if text in NAMED:
        return NAMED[text]
    if text.isspace():
        return LINE_BREAKS if "\n" in text else WHITE_SPACE
    shown = "".join(_visible(character) for character in text.strip(" "))
    if len(shown) > _LONGEST:
        shown = shown[: _LONGEST - 1] + "…"
    return f"…{shown}" if within_word else shown


def _visible(character: str) -> str:
    if character == "\n":
        return "⏎"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 2**16 else f"\\U{ord(character):08x}"


class Words:
    """The words of a vocabulary: tokens that differ in case, leading space or inflection are one word.

    Args:
        texts: The text of each token, leading space included.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._shown: dict[int, str] = {}
        numbers: dict[str, int] = {}
        by_itself = [numbers.setdefault(stem(text), len(numbers)) for text in texts]
        n = len(numbers)
        self.of_token: NDArray[np.int64] = np.array(
            [*by_itself, *(n + number for number in by_itself)], np.int64
        )

    def shown(self, token: int) -> str:
        """A token, by its id as placed in a context, as people read it."""
        if token not in self._shown:
            within, id_ = divmod(token, len(self._texts))
            self._shown[token] = readable(self._texts[id_], within_word=bool(within))
        return self._shown[token]


def stem(text: str) -> str:
    """What inflected forms of an English word have in common, roughly: "loves", "loved", "loving" give "lov".

    Only good for putting forms together; a stem is never shown.
    """
    word = text.removeprefix(" ").casefold()
    if not word.strip():
        return text.removeprefix(" ")
    if not (word.isascii() and word.isalpha()):
        return word
    for ending in _INFLECTIONS:
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= _SHORTEST_STEM:
            if ending in _DOUBLING and rest[-1] == rest[-2] and rest[-1] not in "ls":
                rest = rest[:-1]
            return f"{rest[:-1]}y" if rest.endswith("i") else rest
    return word


@dataclass(frozen=True, slots=True)
class WordShare:
    """A word and how much of a feature it carries.

    Attributes:
        word: Its forms as they are spelled there, the most frequent first: "loved/love".
        tokens: Ids of its tokens, as placed in contexts.
        share: Share of the weight that falls on it.
        count: Contexts in which it stands.
    """

    word: str
    tokens: tuple[int, ...]
    share: float
    count: int


def word_shares(
    words: Words,
    tokens: NDArray[np.int64],
    weight: NDArray[np.float64],
    total: float,
    *,
    most: int,
    together: float = 0.0,
) -> list[WordShare]:
    """Add up weights by word, the largest share first.

    Args:
        words: Of the vocabulary.
        tokens: A token for each context, ``NO_TOKEN`` where there is none.
        weight: Of each context.
        total: Of which weight the share is.
        most: Words to give.
        together: Give none where these have a smaller share together.
    """
    counted = (tokens != NO_TOKEN) & (weight > 0)
    rows = list(
        zip(
            words.of_token[tokens[counted]].tolist(),
            tokens[counted].tolist(),
            weight[counted].tolist(),
            strict=True,
        )
    )
    sums: dict[int, float] = {}
    for word, _, amount in rows:
        sums[word] = sums.get(word, 0.0) + amount
    largest = sorted(sums, key=lambda word: (-sums[word], word))[:most]
    if sum(sums[word] for word in largest) < together * total:
        return []
    spellings: dict[int, dict[int, tuple[float, int]]] = {word: {} for word in largest}
    for word, token, amount in rows:
        if word in spellings:
            before, count = spellings[word].get(token, (0.0, 0))
            spellings[word][token] = (before + amount, count + 1)
    return [_word_share(words, spellings[word], sums[word] / total) for word in largest]


def _word_share(words: Words, spellings: dict[int, tuple[float, int]], share: float) -> WordShare:
    forms: dict[str, tuple[str, float]] = {}
    shown_of = {token: words.shown(token) for token in spellings}
    # The most frequent spelling; of equally frequent ones that in small letters.
    order = sorted(
        spellings, key=lambda token: (-spellings[token][0], shown_of[token] != shown_of[token].lower(), token)
    )
    for token in order:
        amount, shown = spellings[token][0], shown_of[token]
        first, so_far = forms.get(shown.casefold(), (shown, 0.0))
        forms[shown.casefold()] = (first, so_far + amount)
    largest = sorted(forms.values(), key=lambda form: (-form[1], form[0]))
    named = [form for form, amount in largest if amount >= 0.1 * largest[0][1]][:_MOST_FORMS]
    count = sum(count for _, count in spellings.values())
    return WordShare("/".join(named), tuple(sorted(spellings)), share, count)
