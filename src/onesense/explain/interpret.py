"""Explain the features of a run, and score the explanations; what is done already is not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from onesense.explain.endpoint.chat import ChatRequest, Endpoint
from onesense.explain.evidence import FeatureEvidence
from onesense.explain.explanation import WHOLE
from onesense.explain.in_flight import in_flight
from onesense.explain.llm import explain
from onesense.explain.prompts import explain_request
from onesense.explain.sense_evidence import SenseEvidenceReader
from onesense.explain.written import Written
from onesense.store.catalog import Catalog
from onesense.store.explanations import ExplanationRow, read_explanations, write_explanations

Progress = Callable[[int, int | None], None]


class Reader(Protocol):
    """Knows the evidence of features."""

    def evidence(self, feature: int) -> FeatureEvidence:
        """What is known of one feature."""
        ...


@dataclass(frozen=True, slots=True)
class Explainer:
    """A language model that explains.

    Attributes:
        endpoint: Where it is asked.
        model: Its name there.
        concurrency: Questions at once.
    """

    endpoint: Endpoint
    model: str
    concurrency: int


@dataclass(frozen=True, slots=True)
class _Question:
    evidence: FeatureEvidence
    lexical: str | None
    made_from: str


class Questions:
    """The questions about features that have no explanation yet, made as they are taken.

    Args:
        reader: Evidence of features.
        features: Which, ascending.
        catalog: What is explained already.
        made_from: Digest of a question and of how it is asked: what was explained with the same one is not asked
            for again.
        model: Name of the language model that will be asked.
        lexical: What word sets say of features, for the prompt.
        senses: Each sense of a feature with several is explained too, where given.

    Attributes:
        done: Explanations that were there already, of the questions taken since they were last begun.
    """

    def __init__(
        self,
        reader: Reader,
        features: Sequence[int],
        catalog: Catalog,
        made_from: Callable[[ChatRequest[Any]], str],
        model: str,
        *,
        lexical: Mapping[int, str],
        senses: SenseEvidenceReader | None = None,
    ) -> None:
        self.done = 0
        self._reader, self._features, self._senses = reader, features, senses
        self._catalog, self._made_from, self._model, self._lexical = catalog, made_from, model, lexical

    def total(self) -> int:
        """Number of questions, those that have an explanation already among them.

        Raises:
            NotFoundError: Senses were not measured of one of the features.
        """
        if self._senses is None:
            return len(self._features)
        return sum(1 + self._number(feature) for feature in self._features)

    def __iter__(self) -> Iterator[_Question]:
        self.done = 0
        for feature in self._features:
            known = self._known(feature)
            for evidence in self._evidence(feature):
                lexical = self._lexical.get(feature) if evidence.sense == WHOLE else None
                made_from = self._made_from(explain_request(evidence, lexical=lexical))
                if known.get(evidence.sense) == made_from:
                    self.done += 1
                else:
                    yield _Question(evidence, lexical, made_from)

    def requests(self) -> Iterator[tuple[_Question, ChatRequest[Any]]]:
        """The same as requests, for an estimate or for a file of them."""
        for question in self:
            yield question, explain_request(question.evidence, lexical=question.lexical)

    def _known(self, feature: int) -> dict[int, str]:
        rows = read_explanations(self._catalog, feature, method="llm", model=self._model)
        return {row.sense: row.made_from for row in rows if row.status != "http_error"}

    def _evidence(self, feature: int) -> Iterator[FeatureEvidence]:
        whole = self._reader.evidence(feature)
        yield whole
        if self._senses is not None:
            for sense in range(self._number(feature)):
                yield self._senses.evidence(whole, sense)

    def _number(self, feature: int) -> int:
        """Senses that are asked about: a single one is the feature itself."""
        number = 0 if self._senses is None else self._senses.senses(feature)
        return number if number > 1 else 0


async def explain_features(
    questions: Questions, explainer: Explainer, catalog: Catalog, progress: Progress, *, total: int | None
) -> int:
    """Ask every question and keep every answer.

    Args:
        questions: What is to be asked.
        explainer: Whom.
        catalog: Where answers go.
        progress: Told about questions asked or answered already.
        total: How many there are, where known.

    Returns:
        Number of explanations that were asked for.

    Raises:
        EndpointError: Asking on is of no use; what was answered is kept.
        BudgetReachedError: The budget is used up; what was answered is kept.
        StorageError: The disk is full; what was written before is kept.
    """

    async def ask(question: _Question) -> ExplanationRow:
        explanation = await explain(
            explainer.endpoint, question.evidence, model=explainer.model, lexical=question.lexical
        )
        return explanation.row(question.made_from)

    with Written[ExplanationRow](catalog, write_explanations) as written:
        async with aclosing(in_flight(questions, ask, most=explainer.concurrency)) as rows:
            async for row in rows:
                written.add([row])
                progress(written.count + questions.done, total)
    return written.count


def features_of(catalog: Catalog, chosen: Iterable[int] | None, most: int | None) -> list[int]:
    """Ids of the features to explain, ascending.

    Args:
        catalog: The run's catalogue.
        chosen: Only these; None for all.
        most: How many at most.

    Raises:
        NotFoundError: The run has no such feature.
    """
    if chosen is None:
        features = [int(row[0]) for row in catalog.rows("SELECT feature FROM features ORDER BY feature")]
    else:
        features = sorted(set(chosen))
        for feature in features:
            catalog.feature(feature)
    return features[:most]
