"""Which sets or words to name: those that say most about where a feature fires, in few words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from onesense.explain.lexical_words import Words, WordShare, word_shares
from onesense.features.enrichment import NO_TOKEN
from onesense.features.word_sets import WordSet

View = Literal["peak", "before", "after", "opening", "promoted", "suppressed"]

SIGNIFICANT = 0.01
_FEWEST_HITS = 3
_MOST_CLAIMS = 3
_FIRST_SHARE: dict[View, float] = {
    "peak": 0.3,
    "before": 0.5,
    "after": 0.5,
    "promoted": 0.3,
    "suppressed": 0.4,
}
_NEXT_SHARE = 0.12
_LEAST_TOGETHER = 0.3
# A set that holds a twentieth of all text, such as capitalised words, must hold for most of the feature.
_BROAD, _BROAD_SHARE = 0.05, 0.6
_FEWEST_WORDS = 3  # or two fifths of a small set: of her pronouns, two are enough
_DOMINANT = 0.85  # a set of which one word carries more than this says less than the word
_ONE_WORD = 0.55  # a feature with such a word is described by words
_LISTED_SHARE, _MOST_LISTED = 0.06, 3
_LISTED_TOGETHER: dict[View, float] = {"peak": 0.33, "before": 0.6, "after": 0.6}
_LEAST_LIFT = 4.0  # a listed word is at least so much more frequent at peaks than in the text
_SHOWN = 4
_RULE_SIZE = 10**6
_LEAST_EFFECT = 0.6  # nats, of what the set says about a context against a random token


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that is said of a feature.

    Attributes:
        view: Of which tokens: at the peak, right before or after it, the first that the model reads, or those
            that the feature promotes or suppresses.
        word_set: Name of the set, or None where words are listed.
        description: The set's tokens in words; empty where words are listed.
        words: The listed words, or examples of the set, the weightiest first.
        tokens: Ids of the listed words' tokens; a token within a word has its id plus the size of the
            vocabulary. Empty for a set.
        share: Of the activation in the feature's contexts; for promoted and suppressed, of the tokens.
        background: Share of such tokens in the text, or in the vocabulary.
        q: Benjamini-Hochberg over all features, sets and views; None where words are listed.
        word_shares: Of each of ``words``.
    """

    view: View
    word_set: str | None
    description: str
    words: tuple[str, ...]
    tokens: tuple[int, ...]
    share: float
    background: float
    q: float | None = None
    word_shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ViewOfFeature:
    """One view of one feature.

    Attributes:
        view: Which.
        tokens: A token for each context, ``NO_TOKEN`` where there is none, [n].
        weight: Of each context, float64 [n].
        hits: Contexts in each set, [n_sets].
        q: Of each set, [n_sets].
        background: Of each set, [n_sets].
        frequency: Share of each token in the text, [2 * vocab].
    """

    view: View
    tokens: NDArray[np.int64]
    weight: NDArray[np.float64]
    hits: NDArray[np.int64]
    q: NDArray[np.float64]
    background: NDArray[np.float64]
    frequency: NDArray[np.float64]


def effect(share: NDArray[np.float64], background: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much a set says, in nats: the divergence of "in the set or not" at peaks from that in all text.

    A set that holds more of the text must explain more of the feature; a subset wins unless it explains much
    less.
    """
    a, b = np.clip(share, 1e-9, 1 - 1e-9), np.clip(background, 1e-9, 1 - 1e-9)
    nats: NDArray[np.float64] = a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))
    return np.where(share > background, nats, 0.0)


def claims_of_view(
    view: ViewOfFeature, members: NDArray[np.bool_], word_sets: Sequence[WordSet], words: Words
) -> list[Claim]:
    """What to name for one view of a feature: sets, words, or nothing; the largest share first.

    Args:
        view: The feature's tokens.
        members: Which tokens are in which sets, [n_sets, 2 * vocab].
        word_sets: The sets.
        words: Of the vocabulary.
    """
    total = float(view.weight.sum())
    if total <= 0:
        return []
    ends = view.view in ("promoted", "suppressed")
    listing = None if ends else _listing(view, words, total)
    if listing is not None and listing.word_shares[0] >= _ONE_WORD:
        return [listing]
    found = _sets(view, members, word_sets, words, total)
    together = sum(claim.share for claim in found)
    if any(claim.word_set for claim in found) and (listing is None or together >= listing.share):
        return sorted(found, key=lambda claim: -claim.share)
    return [] if listing is None else [listing]


def _listing(view: ViewOfFeature, words: Words, total: float) -> Claim | None:
    """The words that carry most, where some carry enough."""
    least = _LISTED_TOGETHER[view.view]
    shares = word_shares(words, view.tokens, view.weight, total, most=_MOST_LISTED, together=least)
    listed = [
        one for one in shares if one.share >= _LISTED_SHARE and one.count > 1 and _stands_out(view, one)
    ]
    if sum(one.share for one in listed) < least:
        return None
    return _word_claim(view, listed)


def _stands_out(view: ViewOfFeature, word: WordShare) -> bool:
    return word.share >= _LEAST_LIFT * _background(view, word.tokens)


def _background(view: ViewOfFeature, tokens: Sequence[int]) -> float:
    return float(view.frequency[list(tokens)].sum())


def _word_claim(view: ViewOfFeature, listed: Sequence[WordShare]) -> Claim:
    tokens = tuple(token for one in listed for token in one.tokens)
    return Claim(
        view.view,
        None,
        "",
        tuple(one.word for one in listed),
        tokens,
        min(sum(one.share for one in listed), 1.0),
        _background(view, tokens),
        word_shares=tuple(one.share for one in listed),
    )


def _sets(
    view: ViewOfFeature,
    members: NDArray[np.bool_],
    word_sets: Sequence[WordSet],
    words: Words,
    total: float,
) -> list[Claim]:
    """One after the other what says most of that which is not yet explained: a set, or the word that makes it."""
    rows = np.flatnonzero((view.q < SIGNIFICANT) & (view.hits >= _FEWEST_HITS))
    if not len(rows):
        return []
    # Of sets that say as much, the one with the fewest words; rules last.
    rows = rows[np.argsort([len(word_sets[row].words) or _RULE_SIZE for row in rows.tolist()], kind="stable")]
    there = view.tokens != NO_TOKEN
    inside = members[rows[:, None], np.where(there, view.tokens, 0)] & there
    left = np.ones(len(view.tokens), dtype=np.bool_)
    broad = np.where(view.background > _BROAD, _BROAD_SHARE, 0.0)
    claims: list[Claim] = []
    while len(rows) and len(claims) < _MOST_CLAIMS:
        weight = view.weight * left
        share = inside @ weight / total
        enough = share >= np.maximum(_NEXT_SHARE if claims else _FIRST_SHARE[view.view], broad[rows])
        score = effect(share * total / max(float(weight.sum()), 1e-12), view.background[rows]) * enough
        best = int(np.argmax(score >= (1 - 1e-9) * score.max()))
        if score[best] < _LEAST_EFFECT:
            break
        row, mask = int(rows[best]), inside[best] & left
        others = np.arange(len(rows)) != best
        rows, inside = rows[others], inside[others]
        found = word_shares(words, np.where(mask, view.tokens, NO_TOKEN), weight, total, most=_SHOWN)
        fewest = min(_FEWEST_WORDS, max(2, 0.4 * len(word_sets[row].words or found)))
        if len(found) >= fewest and found[0].share <= _DOMINANT * share[best]:
            claims.append(_set_claim(view, word_sets[row], row, float(share[best]), found))
        elif view.view == "peak" and found[0].share >= _NEXT_SHARE and _stands_out(view, found[0]):
            claims.append(_word_claim(view, found[:1]))
            mask = np.isin(view.tokens, found[0].tokens)
        else:
            continue
        left &= ~mask
    return claims if sum(claim.share for claim in claims) >= _LEAST_TOGETHER else []


def _set_claim(
    view: ViewOfFeature, word_set: WordSet, row: int, share: float, found: Sequence[WordShare]
) -> Claim:
    shown = [one for one in found[:_SHOWN] if one.share >= 0.1 * found[0].share]
    return Claim(
        view.view,
        word_set.name,
        word_set.description,
        tuple(one.word for one in shown),
        (),
        min(share, 1.0),
        float(view.background[row]),
        float(view.q[row]),
        tuple(one.share for one in shown),
    )
