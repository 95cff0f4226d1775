"""Explain the features of a run, from the first word set to the last score: what ``onesense interpret`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from onesense.engine.executor import Executor
from onesense.engine.stages import Silent, Stages
from onesense.errors import ConfigurationError
from onesense.explain.asking import Asking, Prices
from onesense.explain.endpoint.estimate import Estimate
from onesense.explain.endpoint.settings import EndpointSettings
from onesense.explain.interpret import Questions, features_of
from onesense.explain.interpreted import write_interpreted
from onesense.explain.lexical import LexicalExplanation
from onesense.explain.lexical_scores import hints, score_lexical
from onesense.explain.negatives import Negatives
from onesense.explain.queue import explain_through_queue, require_no_batch
from onesense.explain.scores.score import ScoreKind
from onesense.explain.scores.summary import ScoreSummary
from onesense.explain.source import RunSource, TableSource, texts_of, with_contexts
from onesense.store.catalog import Catalog
from onesense.store.explanations import (
    WHOLE,
    ExplanationRow,
    read_explanations,
    write_explanations,
)
from onesense.store.run_folder import RunFolder

Tell = Callable[[str], None]
_SAMPLED_FOR_SCORES = 16


@dataclass(frozen=True, slots=True)
class InterpretSettings:
    """What is explained, by whom, and how it is scored.

    Attributes:
        features: Only these; None for all.
        most: How many at most.
        endpoint: The language model that is asked; None for word sets alone.
        prices: What tokens cost, and what may be spent.
        senses: Run of ``onesense senses measure``: each sense of a feature with several is explained too.
        scores: Which scores.
        judge_lexical: Whether the language model judges what word sets say, too.
        text: The text of the run's contexts, for scores; None for the packaged sample.
        dry_run: Only estimate.
    """

    features: Sequence[int] | None = None
    most: int | None = None
    endpoint: EndpointSettings | None = None
    prices: Prices = field(default_factory=Prices)
    senses: Path | None = None
    scores: tuple[ScoreKind, ...] = ()
    judge_lexical: bool = False
    text: str | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            return
        budget = self.prices.budget is not None
        if self.prices.batch or self.judge_lexical or self.senses is not None or budget:
            raise ConfigurationError(
                "--senses, --batch, --judge-lexical and --budget are for a language model, and none is asked.",
                hint="Give a key or --base-url, or leave them out.",
            )
        if "intruder" in self.scores:
            raise ConfigurationError(
                "Word sets cannot find an intruder: that takes a language model.",
                hint="Give a key or --base-url, or --score detection,fuzz.",
            )


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one author's explanations over features.

    Attributes:
        explained_by: The language model's name, or ``word sets``.
        judged_by: The same of the judge.
        summaries: One for each kind.
    """

    explained_by: str
    judged_by: str
    summaries: Sequence[ScoreSummary]


class Interpretation:
    """Explains and scores; everything is in the run's catalogue as soon as it is known.

    Args:
        source: The run, or the table that one was begun from; see ``open_source``.
        settings: What is explained.
        stages: Told about progress.
        executor: Where texts are read and word sets judge; None: here. Results do not depend on it. A language model is
            asked from here: one place keeps the key, the stored replies and the account of what was spent.
        tell: Is given lines for people: whom is asked, estimates, batches.
        agree: Asked before questions are sent that may cost money; False ends the call without asking any.

    Attributes:
        features: What is explained; known once :meth:`run` has begun.
        scores: As they come.
        problems: What went wrong with whole batches.
    """

    def __init__(
        self,
        source: RunSource | TableSource,
        settings: InterpretSettings | None = None,
        *,
        stages: Stages | None = None,
        executor: Executor | None = None,
        tell: Tell = lambda _line: None,
        agree: Callable[[], bool] = lambda: True,
    ) -> None:
        self._source = source
        self._settings = settings or InterpretSettings()
        self._stages = stages or Silent()
        self._executor = executor
        self._tell, self._agree = tell, agree
        self._asking: Asking | None = None
        self.features: Sequence[int] = ()
        self.scores: list[Scores] = []
        self.problems: list[str] = []
        if self._settings.scores or self._settings.senses is not None:
            with_contexts(source)

    @property
    def run_folder(self) -> RunFolder:
        """Where explanations and scores go."""
        return self._source.run

    @property
    def spent(self) -> str:
        """Tokens and dollars until now; empty where nobody was asked."""
        return "" if self._asking is None else str(self._asking.ledger.spending)

    @contextmanager
    def opened(self) -> Iterator[Catalog]:
        """The run's catalogue, with nobody else writing to it.

        Raises:
            LockedError: Another process writes there.
        """
        with self.run_folder.lock(), Catalog(self.run_folder.catalog_path) as catalog:
            yield catalog

    def run(self, catalog: Catalog) -> None:
        """Explain and score everything that is not done yet.

        Args:
            catalog: From :meth:`opened`.

        Raises:
            EndpointError: Asking on is of no use; what was answered is kept.
            BudgetReachedError: The budget is used up; what was answered is kept.
            OnesenseError: See ``Questions``, ``explain_features``, ``score_explanations``.
        """
        settings = self._settings
        self.features = features_of(catalog, settings.features, settings.most)
        self._tell(f"{self._source.describe()}: {len(self.features):,} features to explain")
        lexical = self._explain_lexically(catalog)
        if settings.endpoint is not None:
            self._ask(settings.endpoint, catalog, lexical)
        elif settings.scores:
            source = with_contexts(self._source)
            negatives = source.negatives(settings.text, self._stages, self._executor)
            self._score_lexical(source, negatives, catalog, lexical)

    def _explain_lexically(self, catalog: Catalog) -> Mapping[int, LexicalExplanation]:
        with self._stages.stage("Word sets", "features") as progress:
            found = self._source.lexical(self.features)
            progress(len(found), len(found))
        rows = (ExplanationRow(one.feature, method="lexical", text=one.text) for one in found.values())
        write_explanations(catalog, rows)
        return found

    def _ask(
        self, endpoint: EndpointSettings, catalog: Catalog, lexical: Mapping[int, LexicalExplanation]
    ) -> None:
        settings, source = self._settings, self._source
        if not settings.prices.batch:
            require_no_batch(source.run)
        self._tell(f"Asking {endpoint.model} at {endpoint.base_url}")
        with Asking(endpoint, settings.prices, source.count_tokens) as asking:
            self._asking = asking
            senses = None if settings.senses is None else with_contexts(source).senses(settings.senses)
            questions = partial(
                Questions,
                source,
                self.features,
                catalog,
                asking.made_from,
                endpoint.model,
                lexical=hints(lexical),
                senses=senses,
            )
            if not self._may_ask(asking, questions()):
                return
            if settings.prices.batch:
                self.problems += explain_through_queue(asking, questions(), source.run, catalog, self._tell)
            else:
                with self._stages.stage("Explaining", "questions" if senses else "features") as progress:
                    asking.explain(questions(), catalog, progress, questions().total())
            if settings.scores:
                self._score(asking, catalog, lexical)
            self._tell(f"Paid for: {self.spent}")

    def _may_ask(self, asking: Asking, questions: Questions) -> bool:
        """Say what it will cost; whether to go on."""
        settings = self._settings
        estimates: dict[str, Estimate] = {"Explaining": asking.estimate(questions)}
        if settings.scores:
            step = max(1, len(self.features) // _SAMPLED_FOR_SCORES)
            some = [self._source.evidence(feature) for feature in self.features[::step]]
            estimates["Scoring"] = asking.estimate_scores(
                some, len(self.features), settings.scores, authors=2 if settings.judge_lexical else 1
            )
        for what, one in estimates.items():
            self._tell(f"{what}: {one}")
        if settings.prices.batch:
            estimates["Explaining"].require_within(asking.ledger.budget)
        if settings.dry_run:
            return False
        free = all(one.cost_high == 0 or one.requests == 0 for one in estimates.values())
        return free or self._agree()

    def _score(self, asking: Asking, catalog: Catalog, lexical: Mapping[int, LexicalExplanation]) -> None:
        settings, source = self._settings, with_contexts(self._source)
        model = asking.settings.model
        said = dict.fromkeys(self.features, "")
        for row in read_explanations(catalog, sense=WHOLE, method="llm", model=model):
            if row.feature in said and row.status == "ok":
                said[row.feature] = row.text
        negatives = source.negatives(settings.text, self._stages, self._executor)
        score = partial(asking.score, reader=source.reader, negatives=negatives, catalog=catalog)
        with self._stages.stage("Scoring", "features") as progress:
            found = score(said, "llm", settings.scores, progress=progress)
        self.scores.append(Scores(model, model, found))
        kinds = self._kinds_of_words()
        if settings.judge_lexical and kinds:
            with self._stages.stage("Scoring word sets", "features") as progress:
                found = score(texts_of(lexical), "lexical", kinds, progress=progress)
            self.scores.append(Scores("word sets", model, found))
        if kinds:
            self._score_lexical(source, negatives, catalog, lexical)

    def _score_lexical(
        self,
        source: RunSource,
        negatives: Negatives,
        catalog: Catalog,
        lexical: Mapping[int, LexicalExplanation],
    ) -> None:
        with self._stages.stage("Scoring word sets", "features") as progress:
            found = score_lexical(
                lexical,
                source.lexicon,
                self._kinds_of_words(),
                source.reader,
                negatives,
                catalog,
                progress,
                self._executor,
            )
        self.scores.append(Scores("word sets", "word sets", found))

    def _kinds_of_words(self) -> tuple[ScoreKind, ...]:
        """Scores of an explanation; the intruder needs none."""
        return tuple(kind for kind in self._settings.scores if kind != "intruder")


def interpret(
    source: RunSource | TableSource,
    settings: InterpretSettings | None = None,
    *,
    output: Path | None = None,
    stages: Stages | None = None,
    executor: Executor | None = None,
    tell: Tell = lambda _line: None,
) -> Interpretation:
    """Explain the features of a run, and score the explanations.

    Args:
        source: The run, or the table that one was begun from; see ``open_source``.
        settings: What is explained, by whom, and how it is scored.
        output: Where explanations go as JSON, besides the run's catalogue.
        stages: Told about progress.
        executor: Where texts are read and word sets judge; None: here. Results do not depend on it.
        tell: Is given lines for people.

    Returns:
        What was explained, and how well.

    Raises:
        OnesenseError: See ``Interpretation.run``.
    """
    made = Interpretation(source, settings, stages=stages, executor=executor, tell=tell)
    with made.opened() as catalog:
        made.run(catalog)
        if output is not None:
            write_interpreted(output, catalog, made.features)
    return made
