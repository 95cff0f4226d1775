"""Score what word sets say without asking anyone: the baseline that a language model has to beat."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from onesense.explain.evidence import EvidenceReader
from onesense.explain.lexical import LexicalExplanation, Lexicon
from onesense.explain.lexical_judge import LexicalJudge
from onesense.explain.negatives import Negatives
from onesense.explain.scores.judge import MOST_CONFIDENT, Judgement, ShownContext
from onesense.explain.scores.score import ScoreKind
from onesense.explain.scores.summary import ScoreSummary
from onesense.explain.scoring import Progress, Scored, score_explanations
from onesense.store.catalog import Catalog

LEXICAL = "lexical"


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
    """
    texts = {feature: one.text for feature, one in explanations.items()}
    scored = Scored(texts, LEXICAL, "", WordSetJudge(explanations, lexicon), LEXICAL, at_once=1)
    return asyncio.run(
        score_explanations(scored, kinds, reader, negatives, catalog, progress, seed=reader.seed)
    )


def _probability(judge: LexicalJudge, context: ShownContext) -> float:
    marked = [index for index, mark in enumerate(context.marks) if mark]
    ids = context.token_ids
    return judge.probability_at(ids, marked) if marked else judge.probability(ids)
