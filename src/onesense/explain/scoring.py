"""Score the explanations of a run, each beside the explanation of another feature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from onesense.explain.evidence import EvidenceReader, FeatureEvidence
from onesense.explain.explanation import WHOLE
from onesense.explain.in_flight import in_flight
from onesense.explain.negatives import Negatives
from onesense.explain.scores.judge import Judge
from onesense.explain.scores.score import INTRUDER_CHANCE, Score, ScoreKind, score_feature
from onesense.explain.scores.summary import ScoreSummary, shuffled_explanations, summarise
from onesense.explain.written import Written
from onesense.store.catalog import Catalog
from onesense.store.explanations import ScoreRow, write_scores

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """Whose explanations are scored, and who judges.

    Attributes:
        explanations: Texts by feature; empty where there is none.
        method: Who wrote them: ``llm`` or ``lexical``.
        model: Name of the language model that wrote them; empty for ``lexical``.
        judge: Who judges.
        judge_name: Its name.
        at_once: Features at once.
    """

    explanations: Mapping[int, str]
    method: str
    model: str
    judge: Judge
    judge_name: str
    at_once: int


async def score_explanations(
    scored: Scored,
    kinds: Sequence[ScoreKind],
    reader: EvidenceReader,
    negatives: Negatives,
    catalog: Catalog,
    progress: Progress,
    *,
    seed: int = 0,
) -> list[ScoreSummary]:
    """Score explanations of whole features and keep the scores.

    Stored replies are read again, so scoring that was broken off goes on where it stopped.

    Args:
        scored: Whose explanations, and who judges.
        kinds: Which scores.
        reader: Evidence of features; only its test contexts are shown.
        negatives: Where features do not fire.
        catalog: Where scores go.
        progress: Told about features scored.
        seed: Of the choice and order of contexts, and of whose explanation stands beside whose.

    Returns:
        A summary for each kind.

    Raises:
        EndpointError: Asking on is of no use; scores until then are kept.
        BudgetReachedError: The budget is used up; scores until then are kept.
    """
    other = shuffled_explanations(scored.explanations, seed)

    async def score(evidence: FeatureEvidence) -> list[Score]:
        return await score_feature(
            kinds,
            scored.judge,
            evidence,
            negatives,
            scored.explanations[evidence.feature],
            seed,
            shuffled=other.get(evidence.feature),
        )

    with KeptScores(scored, catalog, progress) as kept:
        async with aclosing(in_flight(_evidence(reader, scored), score, most=scored.at_once)) as results:
            async for scores in results:
                kept.add(scores)
    return summarise(kept.scores, seed=seed)


class KeptScores:
    """Scores on their way into the catalogue; use it as a context manager.

    Args:
        scored: Whose explanations.
        catalog: Where scores go.
        progress: Told about features scored.

    Attributes:
        scores: All of them.
    """

    def __init__(self, scored: Scored, catalog: Catalog, progress: Progress) -> None:
        self.scores: list[Score] = []
        self._scored, self._progress, self._features = scored, progress, 0
        self._written = Written[ScoreRow](catalog, write_scores)

    def add(self, scores: Sequence[Score]) -> None:
        """Keep all scores of one feature."""
        self._written.add(_rows(scores, self._scored))
        self.scores.extend(scores)
        self._features += 1
        self._progress(self._features, len(self._scored.explanations))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._written.flush()


def _evidence(reader: EvidenceReader, scored: Scored) -> Iterator[FeatureEvidence]:
    for feature in sorted(scored.explanations):
        yield reader.evidence(feature)


def _rows(scores: Sequence[Score], scored: Scored) -> list[ScoreRow]:
    shuffled = {one.kind: one for one in scores if one.shuffled}
    return [_row(one, shuffled.get(one.kind), scored) for one in scores if not one.shuffled]


def _row(score: Score, shuffled: Score | None, scored: Scored) -> ScoreRow:
    by_itself = score.kind == "intruder"
    beside = None if shuffled is None or shuffled.accuracy is None else shuffled.accuracy.value
    return ScoreRow(
        score.feature,
        WHOLE,
        "none" if by_itself else scored.method,
        "" if by_itself else scored.model,
        score.kind,
        scored.judge_name,
        value=None if score.accuracy is None else score.accuracy.value,
        low=None if score.accuracy is None else score.accuracy.low,
        high=None if score.accuracy is None else score.accuracy.high,
        auroc=None if score.auroc is None else score.auroc.value,
        baseline=INTRUDER_CHANCE if by_itself else beside,
        items=score.judged,
        missing=score.missing,
        detail=score.reason,
    )
