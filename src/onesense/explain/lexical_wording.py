"""Claims as one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from onesense.explain.lexical_claims import Claim, View
from onesense.explain.lexical_words import LINE_BREAKS, NAMED, WHITE_SPACE

NEVER_FIRES = "Never fires in the text that was read."
NOTHING_STANDS_OUT = "Fires on many different tokens; no set of words stands out."
NOTHING_PROMOTED = "Promotes many different tokens; no set of words stands out."
_CONTINUATIONS = "word_continuations"
_UNQUOTED = frozenset([*NAMED.values(), LINE_BREAKS, WHITE_SPACE])
_SINGLE = 0.85
_PARTLY = 0.5
# What stands before the peak is what the feature fires after.
_ENDS: tuple[tuple[View, str], ...] = (("promoted", "promotes"), ("suppressed", "suppresses"))
_SIDES: tuple[tuple[View, str], ...] = (("before", "after"), ("after", "before"))


def sentence(claims: Sequence[Claim], contexts: int | None) -> str:
    """What is said of a feature.

    Args:
        claims: What is said, for machines.
        contexts: Contexts that it was made from; None where no text was read.
    """
    by_view: dict[View, list[Claim]] = {}
    for claim in claims:
        by_view.setdefault(claim.view, []).append(claim)
    parts = []
    if contexts == 0:
        parts.append(NEVER_FIRES.removesuffix("."))
    elif contexts is not None:
        parts.append(_firing(by_view))
    for view, verb in _ENDS:
        if view in by_view:
            parts.append(f"{verb} {_joined([_named(claim) for claim in by_view[view]])}")
    if not parts:
        return NOTHING_PROMOTED
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _firing(by_view: dict[View, list[Claim]]) -> str:
    opening, peak = by_view.get("opening", []), by_view.get("peak", [])
    if opening:
        return f"fires at the beginning of what the model reads ({_percent(opening[0].share)} %)"
    around = [_beside(side, by_view[view]) for view, side in _SIDES if view in by_view]
    if len(peak) == 1 and peak[0].word_set is None:
        return ", ".join([_words_firing(peak[0]), *around])
    if peak:
        amount = "partly " if sum(claim.share for claim in peak) < _PARTLY else ""
        return ", ".join(
            [f"fires {amount}on {_joined([_named(claim, share=True) for claim in peak])}", *around]
        )
    if around:
        return f"fires {', '.join(around)}"
    return NOTHING_STANDS_OUT.removesuffix(".").replace("Fires", "fires")


def _beside(side: str, claims: Sequence[Claim]) -> str:
    if side == "before" and claims[0].word_set == _CONTINUATIONS:
        return f"where the word goes on ({_percent(claims[0].share)} %)"
    return f"right {side} {_joined([_named(claim, share=True) for claim in claims])}"


def _words_firing(claim: Claim) -> str:
    listed = [
        f"{_quoted(word)} ({_percent(share)} %)"
        for word, share in zip(claim.words, claim.word_shares, strict=True)
    ]
    if claim.word_shares[0] >= _SINGLE:
        return f"fires on one word, {listed[0]}"
    amount = "mostly" if claim.share >= _PARTLY else "partly"
    return f"fires {amount} on {', '.join(listed)}"


def _named(claim: Claim, *, share: bool = False) -> str:
    percent = f"{_percent(claim.share)} %" if share else ""
    if claim.word_set is None:
        listed = ", ".join(map(_quoted, claim.words))
        return f"{listed} ({percent})" if percent else listed
    inside = "; ".join(part for part in (", ".join(map(_example, claim.words)), percent) if part)
    return f"{claim.description} ({inside})"


def _example(word: str) -> str:
    """An example of a set; signs are quoted, so that they cannot be taken for those of the sentence."""
    return word if any(character.isalnum() for character in word) else _quoted(word)


def _quoted(word: str) -> str:
    return word if word in _UNQUOTED else f"‘{word}’"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _percent(share: float) -> int:
    return round(100 * share)
