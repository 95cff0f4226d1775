"""Say from a lexical explanation alone how surely a feature fires in a text: a judge that is no language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onesense.explain.lexical import LexicalExplanation, Lexicon
from onesense.explain.lexical_claims import Claim, View

_OFFSETS: dict[View, int] = {"peak": 0, "before": -1, "after": 1}
_LEAST, _MOST = 0.02, 0.98  # no explanation is sure


class LexicalJudge:
    """Compares texts with what an explanation claims.

    A claim says which share of the feature's firings it holds for, and how frequent its tokens are in any
    text. From these two follows, by Bayes' rule at even odds, how surely the feature fires where tokens of the
    claim are there or missing. Claims about different places are taken for independent. What a feature promotes
    says nothing of where it fires, so an explanation with no other claim always gives 0.5.

    Args:
        explanation: The explanation.
        lexicon: The word sets that it was made with.

    Attributes:
        judges: Whether the explanation says anything about where the feature fires.
    """

    def __init__(self, explanation: LexicalExplanation, lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        names = [word_set.name for word_set in lexicon.word_sets]
        self._claims: dict[View, list[tuple[Claim, NDArray[np.bool_]]]] = {}
        for claim in explanation.claims:
            if claim.view in _OFFSETS:
                member = np.zeros(lexicon.members.shape[1], dtype=np.bool_)
                if claim.word_set is None:
                    member[list(claim.tokens)] = True
                else:
                    member |= lexicon.members[names.index(claim.word_set)]
                self._claims.setdefault(claim.view, []).append((claim, member))
        self.judges = bool(self._claims)

    def probability(self, token_ids: Sequence[int] | NDArray[np.integer]) -> float:
        """How surely the feature fires anywhere in a text, between 0 and 1."""
        return self.probability_at(token_ids, range(len(token_ids)))

    def probability_at(
        self, token_ids: Sequence[int] | NDArray[np.integer], positions: Sequence[int] | NDArray[np.integer]
    ) -> float:
        """How surely the feature fires at any of some tokens of a text, between 0 and 1.

        Args:
            token_ids: The text.
            positions: Indices of tokens in it.
        """
        ids = self._lexicon.places.placed(np.asarray(token_ids, np.int64))
        at = np.asarray(positions, np.int64)
        odds = 1.0
        for view, claims in self._claims.items():
            where = at + _OFFSETS[view]
            where = where[(where >= 0) & (where < len(ids))]
            odds *= _odds(claims, ids[where])
        return odds / (1 + odds)


def _odds(claims: Sequence[tuple[Claim, NDArray[np.bool_]]], tokens: NDArray[np.int64]) -> float:
    """How much likelier these tokens are where the feature fires on one of them than elsewhere."""
    claimed = sum(claim.share for claim, _ in claims)
    scale = min(1.0, _MOST / max(claimed, _LEAST))
    odds = 1.0 - scale * claimed  # it fires on something that was not claimed
    for claim, member in claims:
        if bool(member[tokens].any()):
            by_chance = -np.expm1(len(tokens) * np.log1p(-min(claim.background, _MOST)))
            odds += scale * claim.share / max(float(by_chance), 1e-4)
    return odds
