"""Stretches of a corpus as people and language models read them.

The text is not trusted: it becomes one line without characters that hide or reorder others, and what it holds
of our own marks is escaped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from onesense.model.language_model import LanguageModel

MARK_SHARE = 0.3
"""Tokens above this share of a passage's largest activation are marked."""

OPEN, CLOSE = "⟦", "⟧"
"""Around every text of a corpus in a prompt; escaped in the text itself."""

_INCOMPLETE = "\ufffd"
_LONGEST_CHARACTER = 8  # tokens; a character has at most 4 bytes, a token at least one
_HIDDEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
# Marks and letters that show nothing: joiners, fillers, and the selectors of variants.
_WITHOUT_WIDTH = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | {
    chr(0xFE00 + n) for n in range(16)
}
_SPACES = {"\n": "⏎", "\r": "", "\t": "⇥"}
_DOUBLE = re.compile("<{2,}|>{2,}")


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a document, and what a feature does there.

    Attributes:
        document: Number of the document.
        start: Offset of the first token within the document, BOS not counted.
        token_ids: The tokens.
        pieces: Visible text of each token; a character that spans tokens is at its first, the others are empty.
        activations: The feature's activation at each token; all 0 where it does not fire.
        peak: Index of the token that counts: of the largest activation, or where a negative is nearest.
    """

    document: int
    start: int
    token_ids: tuple[int, ...]
    pieces: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int

    @property
    def stop(self) -> int:
        """Offset behind the last token."""
        return self.start + len(self.token_ids)

    @property
    def activation(self) -> float:
        """The activation at the peak."""
        return self.activations[self.peak]

    def overlaps(self, other: Passage) -> bool:
        """Whether both hold a same place of a same document."""
        return self.document == other.document and self.start < other.stop and other.start < self.stop

    def marks(self) -> tuple[bool, ...]:
        """Which tokens are marked: above ``MARK_SHARE`` of the largest activation; none where it does not fire."""
        largest = max(self.activations)
        return tuple(value > MARK_SHARE * largest for value in self.activations)


class TokenPieces:
    """Visible text of tokens within their text, so that byte-level artefacts never show.

    Single tokens are decoded once and kept: at most one short string for each entry of the vocabulary.

    Args:
        model: Whose tokenizer.

    Raises:
        ConfigurationError: The model has no tokenizer.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._tokenizer = model.require_tokenizer()
        # What a token is within a text: SentencePiece drops the space of the first.
        self._anchor = self._tokenizer.encode("a", add_special_tokens=False)
        self._anchor_text = self._decode(self._anchor)
        self._raw: dict[int, str] = {}
        self._visible: dict[int, str] = {}

    def of(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Visible text of each token of a stretch; see ``Passage.pieces``."""
        known = self._visible
        try:
            pieces = [known[token] for token in token_ids]
        except KeyError:
            pieces = [self._learnt(token) for token in token_ids]
        if _INCOMPLETE in "".join(pieces):
            self._complete(token_ids, pieces)
        return tuple(pieces)

    def _learnt(self, token: int) -> str:
        if token not in self._visible:
            self._raw[token] = self._within([token])
            self._visible[token] = visible(self._raw[token])
        return self._visible[token]

    def _complete(self, token_ids: Sequence[int], pieces: list[str]) -> None:
        """Put the pieces of characters together, in place."""
        index = 0
        while index < len(pieces):
            if _INCOMPLETE in pieces[index]:
                longest = min(len(pieces), index + _LONGEST_CHARACTER)
                for stop in range(index + 2, longest + 1):
                    whole = self._within(token_ids[index:stop])
                    if _INCOMPLETE not in whole:
                        pieces[index:stop] = [visible(whole), *[""] * (stop - index - 1)]
                        index = stop - 1
                        break
            index += 1

    def _within(self, token_ids: Sequence[int]) -> str:
        whole = self._decode([*self._anchor, *token_ids])
        if whole.startswith(self._anchor_text):
            return whole[len(self._anchor_text) :]
        return self._decode(token_ids)

    def _decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids), clean_up_tokenization_spaces=False))


def visible(text: str) -> str:
    """Text on one line, with hidden and reordering characters, and our delimiters, as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def marked_text(pieces: Sequence[str], marks: Sequence[bool]) -> str:
    """One line with ``<<`` and ``>>`` around marked tokens; neighbours share one pair.

    Args:
        pieces: Visible text of each token.
        marks: Which tokens are marked; a mark on a part of a character marks the character.
    """
    if not any(marks):
        return _escaped("".join(pieces), at_start=False, at_end=False)
    flags = by_character(pieces, marks)
    edges = [0, *(index for index in range(1, len(flags)) if flags[index] != flags[index - 1]), len(flags)]
    written = []
    for start, stop in pairwise(edges):
        mark, text = flags[start], "".join(pieces[start:stop])
        clean = _escaped(text, at_start=mark or start > 0, at_end=mark or stop < len(flags))
        written.append(f"<<{clean}>>" if mark else clean)
    return "".join(written)


def by_character(pieces: Sequence[str], marks: Sequence[bool]) -> list[bool]:
    """Marks where all tokens of a character are marked, or none."""
    flags = list(marks)
    if "" not in pieces:
        return flags
    first = 0
    for index, piece in enumerate(pieces):
        if piece:
            first = index
        elif marks[index]:
            flags[first] = True
    for index in range(1, len(flags)):
        if not pieces[index]:
            flags[index] = flags[index - 1]
    return flags


def _escaped(text: str, *, at_start: bool, at_end: bool) -> str:
    """Text that cannot be taken for a mark, nor lengthen one that stands beside it."""
    if "<" not in text and ">" not in text:
        return text
    alone = len(text) == 1
    first = text[0] in "<>" and text[:2] not in ("<<", ">>") and (at_start or (alone and at_end))
    last = not alone and at_end and text[-1] in "<>" and text[-2:] not in ("<<", ">>")
    if last:
        text = f"{text[:-1]}\\{text[-1]}"
    doubled = _DOUBLE.sub(lambda found: "".join(f"\\{one}" for one in found.group()), text)
    return f"\\{doubled}" if first else doubled


def _shown(character: str) -> str:
    if character in _SPACES:
        return _SPACES[character]
    if character in (OPEN, CLOSE) or (
        character != _INCOMPLETE
        and (unicodedata.category(character) in _HIDDEN or character in _WITHOUT_WIDTH)
    ):
        code = ord(character)
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character
