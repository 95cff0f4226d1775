"""Score what word sets say without asking anyone: the baseline that a language model has to beat."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from onesense.engine.executor import Executor, LocalExecutor
from onesense.explain.evidence import EvidenceReader, FeatureEvidence
from onesense.explain.lexical import LexicalExplanation, Lexicon
from onesense.explain.lexical_judge import LexicalJudge
from onesense.explain.negatives import Negatives
from onesense.explain.scores.judge import MOST_CONFIDENT, Judgement, ShownContext
from onesense.explain.scores.score import Score, ScoreKind, score_feature
from onesense.explain.scores.summary import ScoreSummary, shuffled_explanations, summarise
from onesense.explain.scoring import KeptScores, Progress, Scored
from onesense.store.catalog import Catalog

LEXICAL = "lexical"

_FEATURES_AT_ONCE = 64


class WordSetJudge:
    """Judges contexts by what lexical explanations claim; see ``LexicalJudge``.

    Args:
        explanations: Those that it will be asked about.
        lexicon: The word sets that they were made with.
    """

    def __init__(self, explanations: Mapping[int, LexicalExplanation], lexicon: Lexicon) -> None:
        # Features of whom the same is said claim the same.
        self._said = {one.text: one for one in explanations.values()}
        self._lexicon = lexicon

    async def judge(self, explanation: str, contexts: Sequence[ShownContext]) -> Judgement:
        """See ``Judge``."""
        judge = LexicalJudge(self._said[explanation], self._lexicon)
        return Judgement(tuple(MOST_CONFIDENT * _probability(judge, one) for one in contexts))

    async def find_intruder(self, contexts: Sequence[ShownContext]) -> Judgement:
        """Word sets cannot tell."""
        del contexts
        return Judgement(None, detail="word sets compare no contexts")


def hints(explanations: Mapping[int, LexicalExplanation]) -> dict[int, str]:
    """What a language model is told of word sets: the sentences that name one."""
    return {
        feature: one.text
        for feature, one in explanations.items()
        if any(claim.word_set is not None for claim in one.claims)
    }


def score_lexical(
    explanations: Mapping[int, LexicalExplanation],
    lexicon: Lexicon,
    kinds: Sequence[ScoreKind],
    reader: EvidenceReader,
    negatives: Negatives,
    catalog: Catalog,
    progress: Progress,
    executor: Executor | None = None,
) -> list[ScoreSummary]:
    """Score lexical explanations by themselves; see ``score_explanations``.

    Args:
        explanations: By feature.
        lexicon: The word sets that they were made with.
        kinds: Detection, fuzzing.
        reader: Evidence of features.
        negatives: Where features do not fire.
        catalog: Where scores go.
        progress: Told about features scored.
        executor: Where they are judged; None: here. Results do not depend on it.
    """
    texts = {feature: one.text for feature, one in explanations.items()}
    judge = WordSetJudge(explanations, lexicon)
    scored = Scored(texts, LEXICAL, "", judge, LEXICAL, at_once=1)
    work = _Judging(judge, texts, shuffled_explanations(texts, reader.seed), kinds, negatives, reader.seed)
    evidence = (reader.evidence(feature) for feature in sorted(texts))
    groups = iter(lambda: list(islice(evidence, _FEATURES_AT_ONCE)), [])
    with KeptScores(scored, catalog, progress) as kept:
        for found in (executor or LocalExecutor()).map_shards(work, groups):
            for scores in found:
                kept.add(scores)
    return summarise(kept.scores, seed=reader.seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Judging:
    """Scores what is said of some features; can be sent to another process."""

    judge: WordSetJudge
    texts: Mapping[int, str]
    others: Mapping[int, str | None]
    kinds: Sequence[ScoreKind]
    negatives: Negatives
    seed: int

    def __call__(self, features: Sequence[FeatureEvidence]) -> list[list[Score]]:
        return asyncio.run(self._scores(features))

    async def _scores(self, features: Sequence[FeatureEvidence]) -> list[list[Score]]:
        return [
            await score_feature(
                self.kinds,
                self.judge,
                one,
                self.negatives,
                self.texts[one.feature],
                self.seed,
                shuffled=self.others.get(one.feature),
            )
            for one in features
        ]


def _probability(judge: LexicalJudge, context: ShownContext) -> float:
    marked = [index for index, mark in enumerate(context.marks) if mark]
    ids = context.token_ids
    return judge.probability_at(ids, marked) if marked else judge.probability(ids)
