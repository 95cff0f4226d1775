"""Word sets that no list can hold: scripts, digits, punctuation, endings and beginnings of words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Place = Literal["word", "anywhere", "within a word"]
Kind = Literal["words", "signs", "all"]
_SHORTEST = 4


class TokenTable:
    """Tokens, sorted into words of ASCII letters and all others, so that a rule need not look at each.

    Args:
        texts: The text of each token without its leading space.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        is_word = np.array([text.isascii() and text.isalpha() for text in texts], dtype=np.bool_)
        long = np.array([len(text) >= _SHORTEST for text in texts], dtype=np.bool_)
        self.of: dict[Kind, NDArray[np.intp]] = {
            "words": np.flatnonzero(is_word),
            "signs": np.flatnonzero(~is_word),
            "all": np.arange(len(texts)),
        }
        self.texts_of = {kind: [texts[token] for token in where.tolist()] for kind, where in self.of.items()}
        self.long = np.flatnonzero(is_word & long)
        self.folded = [texts[token].casefold() for token in self.long.tolist()]


@dataclass(frozen=True, slots=True)
class Rule:
    """Decides whether a token belongs.

    Attributes:
        name: Name of the set.
        description: What the tokens are, in the plural.
        holds: Given a token's text without its leading space.
        place: Where the token must stand: by itself, anywhere, or going on a word that has begun.
        kind: Tokens that it looks at.
    """

    name: str
    description: str
    holds: Callable[[str], bool]
    place: Place = "word"
    kind: Kind = "signs"

    def members(self, table: TokenTable) -> NDArray[np.bool_]:
        """Whether each token belongs, wherever it stands."""
        found = np.zeros(len(table.texts), dtype=np.bool_)
        found[table.of[self.kind]] = [self.holds(text) for text in table.texts_of[self.kind]]
        return found


@dataclass(frozen=True, slots=True)
class Affix:
    """Words of at least four letters that end, or begin, in one of some ways.

    Attributes:
        name: Name of the set.
        description: What the words are, in the plural.
        affixes: The endings or beginnings; a word must be longer.
        but: Longer endings that only look like it.
        other_words: Words that only look like it.
        place: Where the token must stand; pieces within a word may be shorter than four letters.
        beginning: Whether the affixes stand at the beginning.
    """

    name: str
    description: str
    affixes: tuple[str, ...]
    but: tuple[str, ...] = ()
    other_words: tuple[str, ...] = ()
    place: Place = "word"
    beginning: bool = False

    def members(self, table: TokenTable) -> NDArray[np.bool_]:
        """Whether each token belongs, wherever it stands."""
        found = np.zeros(len(table.texts), dtype=np.bool_)
        if self.place == "within a word":
            found[table.of["words"]] = [text.endswith(self.affixes) for text in table.texts_of["words"]]
        elif self.beginning:
            found[table.long] = [word.startswith(self.affixes) for word in table.folded]
        else:
            not_these = {*self.affixes, *self.other_words}
            found[table.long] = [
                word.endswith(self.affixes) and word not in not_these and not word.endswith(self.but)
                for word in table.folded
            ]
        return found


def _only(characters: str) -> Callable[[str], bool]:
    allowed = frozenset(characters)
    return lambda text: bool(text) and allowed.issuperset(text)


def _pattern(pattern: str) -> Callable[[str], bool]:
    matches = re.compile(pattern).fullmatch
    return lambda text: matches(text) is not None


@lru_cache(maxsize=65536)
def script_of(character: str) -> str:
    """The script of a letter, by the first word of its name in Unicode; empty for anything else."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "").split(" ")[0]
    return {"CJK": "HAN", "FULLWIDTH": "LATIN"}.get(name, name)


def _script(*scripts: str) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        if text.isascii():
            return False
        found = {script_of(character) for character in text} - {""}
        return bool(found) and found <= set(scripts)

    return holds


def _accented(text: str) -> bool:
    return (
        not text.isascii() and text.isalpha() and all(script_of(character) == "LATIN" for character in text)
    )


def _symbols(text: str) -> bool:
    return bool(text) and all(unicodedata.category(character) in ("So", "Sk") for character in text)


_SCRIPTS = (
    Rule("script_cyrillic", "Cyrillic letters", _script("CYRILLIC"), "anywhere"),
    Rule("script_greek", "Greek letters", _script("GREEK"), "anywhere"),
    Rule("script_han", "Chinese characters", _script("HAN"), "anywhere"),
    Rule("script_japanese", "Japanese syllables", _script("HIRAGANA", "KATAKANA"), "anywhere"),
    Rule("script_korean", "Korean syllables", _script("HANGUL"), "anywhere"),
    Rule("script_arabic", "Arabic letters", _script("ARABIC"), "anywhere"),
    Rule("script_hebrew", "Hebrew letters", _script("HEBREW"), "anywhere"),
    Rule("script_indic", "letters of Indian scripts", _script("DEVANAGARI", "BENGALI", "TAMIL"), "anywhere"),
    Rule("script_thai", "Thai letters", _script("THAI"), "anywhere"),
    Rule("letters_accented", "words with accented letters", _accented, "anywhere"),
)

_FORMS = (
    Rule("digits", "digits and numbers", _pattern(r"[0-9]+"), "anywhere"),
    Rule("years", "years", _pattern(r"1[0-9]{3}|20[0-9]{2}"), "anywhere"),
    Rule("capitalised", "capitalised words", _pattern(r"[A-Z][a-z]+"), kind="words"),
    Rule("all_capitals", "words in capitals", _pattern(r"[A-Z]{2,}"), "anywhere", kind="words"),
    Rule("single_letters", "single letters", _pattern(r"[B-HJ-Zb-z]"), kind="words"),
    Rule(
        "word_continuations",
        "later pieces of words",
        lambda text: text[:1].isalpha(),
        "within a word",
        kind="all",
    ),
    Rule("half_characters", "parts of a character", lambda text: "\ufffd" in text, "anywhere"),
    Rule("line_breaks", "line breaks", lambda text: "\n" in text and text.isspace(), "anywhere"),
    Rule("white_space", "white space", lambda text: not text or text.isspace(), "anywhere"),
    Rule("symbols", "symbols and emoji", _symbols, "anywhere"),
    Rule(
        "identifiers",
        "names in program code",
        _pattern(r"[a-z]+(?:_[a-z]+)+|_[a-z]+|[a-z]+[A-Z][A-Za-z]*"),
        kind="all",
    ),
)

_PUNCTUATION = (
    Rule("sentence_ends", "ends of sentences", _pattern(r"[.!?]+[\"”’')\]]*"), "anywhere"),
    Rule("full_stops", "full stops", _only("."), "anywhere"),
    Rule("question_marks", "question and exclamation marks", _pattern(r"[.!?]*[!?]+[\"”’')]*"), "anywhere"),
    Rule("commas", "commas", _pattern(r",[\"”’')\]]*"), "anywhere"),
    Rule("colons", "colons and semicolons", _pattern(r"[)\]\"”]*[:;]+"), "anywhere"),
    Rule("brackets_opening", "opening brackets", _pattern(r"[\"'.=,]*[(\[{<]+[\"']*"), "anywhere"),
    Rule("brackets_closing", "closing brackets", _pattern(r"[\"']*[)\]}>]+[.,;:]*"), "anywhere"),
    Rule("quotation_marks", "quotation marks", _pattern(r"[.,!?]*[\"“”‘’«»'`]+[.,!?]*"), "anywhere"),
    Rule("apostrophes", "apostrophes", _only("'’"), "anywhere"),
    Rule("dashes", "dashes and hyphens", _only("-–—−"), "anywhere"),
    Rule("slashes", "slashes", _only("/\\|"), "anywhere"),
    Rule("operators", "operators of formulas and code", _pattern(r"[-+*/=<>!&|^%~]+"), "anywhere"),
    Rule("currency_signs", "currency signs", _only("$€£¥₹¢"), "anywhere"),
    Rule(
        "markdown",
        "marks of headings, lists and tables",
        _pattern(r"#+|\*+|[-=_*]{3,}|`{3}|\|+|•"),
        "anywhere",
    ),
    Rule(
        "punctuation",
        "punctuation marks",
        lambda text: bool(text) and all(unicodedata.category(character)[0] == "P" for character in text),
        "anywhere",
    ),
)

_NO_ING_FORMS = (
    "thing",
    "king",
    "ring",
    "spring",
    "bring",
    "string",
    "sing",
    "wing",
    "during",
    "morning",
    "evening",
    "nothing",
    "something",
    "anything",
    "everything",
)

_ENDINGS = (
    Affix("ending_ing", "words that end in -ing", ("ing",), other_words=_NO_ING_FORMS),
    Affix("ending_ed", "words that end in -ed", ("ed",), ("eed",)),
    Affix("ending_ly", "words that end in -ly", ("ly",)),
    Affix("ending_tion", "words that end in -tion or -sion", ("tion", "sion", "tions", "sions")),
    Affix("ending_ness", "words that end in -ness", ("ness",)),
    Affix("ending_ment", "words that end in -ment", ("ment", "ments")),
    Affix("ending_ity", "words that end in -ity", ("ity", "ities")),
    Affix("ending_ism", "words that end in -ism or -ist", ("ism", "ist", "ists")),
    Affix("ending_er", "words that end in -er or -or", ("er", "or", "ers", "ors")),
    Affix("ending_est", "words that end in -est", ("est",)),
    Affix("ending_able", "words that end in -able or -ible", ("able", "ible")),
    Affix("ending_al", "words that end in -al", ("al",)),
    Affix("ending_ous", "words that end in -ous", ("ous",)),
    Affix("ending_ive", "words that end in -ive", ("ive",)),
    Affix("ending_ic", "words that end in -ic", ("ic", "ical")),
    Affix("ending_ful", "words that end in -ful or -less", ("ful", "less")),
    Affix("ending_ance", "words that end in -ance or -ence", ("ance", "ence", "ances", "ences")),
    Affix("ending_ology", "words for fields of study", ("ology", "ologies", "ologist", "ics", "graphy")),
    Affix("ending_s", "words that end in -s", ("s",), ("ss", "us", "is")),
    Affix(
        "beginning_un", "words that begin with un-, in- or dis-", ("un", "in", "im", "dis"), beginning=True
    ),
    Affix("piece_ing", "word endings with -ing", ("ing", "ings"), place="within a word"),
    Affix("piece_ed", "word endings with -ed", ("ed",), place="within a word"),
    Affix("piece_ly", "word endings with -ly", ("ly",), place="within a word"),
    Affix("piece_s", "word endings with -s", ("s",), place="within a word"),
    Affix("piece_tion", "word endings with -tion", ("tion", "tions", "sion", "ation"), place="within a word"),
    Affix("piece_er", "word endings with -er or -or", ("er", "ers", "or", "ors"), place="within a word"),
    Affix(
        "piece_name",
        "word endings of places and names",
        ("ville", "burg", "shire", "ton", "stein", "ovich", "sson"),
        place="within a word",
    ),
    Affix(
        "piece_chemical",
        "word endings of substances",
        ("ine", "ate", "ide", "ase", "ene", "ol"),
        place="within a word",
    ),
)

RULES: tuple[Rule | Affix, ...] = (*_SCRIPTS, *_FORMS, *_PUNCTUATION, *_ENDINGS)
"""Every rule."""
