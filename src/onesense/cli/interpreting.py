"""The steps of ``onesense interpret``, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesense.cli.console import Bars, note, warn
from onesense.cli.extract import folder_name
from onesense.cli.interpret_tables import show_explanations, show_scores
from onesense.errors import BudgetReachedError, ConfigurationError, EndpointError

if TYPE_CHECKING:
    from onesense.config import Settings
    from onesense.explain.asking import Asking
    from onesense.explain.endpoint.settings import EndpointSettings
    from onesense.explain.interpret import Questions
    from onesense.explain.lexical import LexicalExplanation
    from onesense.explain.negatives import Negatives
    from onesense.explain.scores.score import ScoreKind
    from onesense.explain.source import RunSource, TableSource
    from onesense.store.catalog import Catalog

    AnySource = RunSource | TableSource
    Said = Mapping[int, LexicalExplanation]

"""What helps where a language model's answer could not be used."""
_EXPLAINERS = ("auto", "llm", "lexical")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is explained, and how.

    Attributes:
        explainer: ``auto``, ``llm`` or ``lexical``.
        only_listed: Whether the features of the table are meant, where the run has more.
        features: Features as typed; None for all.
        most: How many at most.
        senses: Run of measured senses, or None.
        word_sets: Files of the user's own sets.
        scores: Scores as typed; None for none.
        judge_lexical: Whether the language model judges what word sets say.
        text: Text of the run; None for the packaged sample.
        batch: Whether questions go through the batch queue.
    """

    explainer: str
    only_listed: bool
    features: str | None
    most: int | None
    senses: Path | None
    word_sets: tuple[Path, ...]
    scores: str | None
    judge_lexical: bool
    text: str | None
    batch: bool


@dataclass(frozen=True, slots=True)
class Money:
    """What may be spent.

    Attributes:
        budget: Dollars at most, or None.
        price_input: The user's price of a million tokens in.
        price_output: The user's price of a million tokens out.
        dry_run: Only estimate.
        confirmed: Do not ask the user first.
    """

    budget: float | None
    price_input: float | None
    price_output: float | None
    dry_run: bool = False
    confirmed: bool = False


class Interpreting:
    """One call of the command.

    Args:
        settings: Key, address, files.
        wanted: What is explained.
        money: What may be spent.
        further: Further settings of the endpoint.
        quiet: No progress bars.
    """

    def __init__(
        self, settings: Settings, wanted: Wanted, money: Money, further: Mapping[str, Any], *, quiet: bool
    ) -> None:
        self._settings, self._wanted, self._money = settings, wanted, money
        self._further = further
        self._quiet = quiet
        self._kinds = _score_kinds(wanted.scores)
        self._llm = self._uses_llm()

    def run(self) -> None:
        """Explain, score, show, write."""
        from onesense.explain.interpret import features_of
        from onesense.explain.source import RunSource, listed_features, open_source, with_contexts
        from onesense.store.catalog import Catalog

        wanted, settings = self._wanted, self._settings
        endpoint = self._endpoint() if self._llm else None
        table = settings.top_activations_file
        source = open_source(
            settings.run_folder,
            table,
            word_sets=wanted.word_sets,
            seed=settings.seed,
            device=settings.device,
            default=Path("onesense-runs") / folder_name("interpret", table.stem if table else ""),
        )
        if self._kinds or wanted.senses is not None:
            with_contexts(source)
        with source.run.lock(), Catalog(source.run.catalog_path) as catalog:
            chosen = _numbers(wanted.features)
            if chosen is None and wanted.only_listed and table is not None and isinstance(source, RunSource):
                chosen = listed_features(table)
            features = features_of(catalog, chosen, wanted.most)
            note(f"{source.describe()}: {len(features):,} features to explain")
            lexical = self._lexical(source, catalog, features)
            try:
                if endpoint is not None:
                    self._ask(endpoint, source, catalog, features, lexical)
                elif self._kinds:
                    self._score_lexical(with_contexts(source), catalog, lexical, None)
            except (BudgetReachedError, EndpointError):
                self._finish(source, catalog, features)  # what was answered until then
                raise
            self._finish(source, catalog, features)

    def _uses_llm(self) -> bool:
        wanted, settings = self._wanted, self._settings
        if wanted.explainer not in _EXPLAINERS:
            raise ConfigurationError(
                f"There is no explainer {wanted.explainer!r}.", hint=f"Choose from: {', '.join(_EXPLAINERS)}."
            )
        reachable = settings.openai_api_key is not None or settings.openai_base_url is not None
        if wanted.explainer == "llm" and not reachable:
            raise ConfigurationError(
                "A language model explains only with a key or an address.",
                hint="Put OPENAI_API_KEY into .env, or give --base-url of a server of your own.",
            )
        llm = wanted.explainer == "llm" or (wanted.explainer == "auto" and reachable)
        budget = self._money.budget is not None
        if not llm and (wanted.batch or wanted.judge_lexical or wanted.senses is not None or budget):
            raise ConfigurationError(
                "--senses, --batch, --judge-lexical and --budget are for a language model, and none is asked.",
                hint="Give a key or --base-url, or leave them out.",
            )
        if not llm and "intruder" in self._kinds:
            raise ConfigurationError(
                "Word sets cannot find an intruder: that takes a language model.",
                hint="Give a key or --base-url, or --score detection,fuzz.",
            )
        return llm

    def _lexical(self, source: AnySource, catalog: Catalog, features: Sequence[int]) -> Said:
        from onesense.store.explanations import ExplanationRow, write_explanations

        with Bars(quiet=self._quiet).stage("Word sets", "features") as progress:
            found = source.lexical(features)
            progress(len(found), len(found))
        write_explanations(
            catalog,
            (ExplanationRow(one.feature, method="lexical", text=one.text) for one in found.values()),
        )
        return found

    def _endpoint(self) -> EndpointSettings:
        from onesense.explain.asking import endpoint_settings

        settings = self._settings
        return endpoint_settings(
            settings.openai_base_url, settings.explainer_model, settings.openai_api_key, **self._further
        )

    def _ask(
        self,
        endpoint: EndpointSettings,
        source: AnySource,
        catalog: Catalog,
        features: Sequence[int],
        lexical: Said,
    ) -> None:
        from onesense.explain.asking import Asking, Prices
        from onesense.explain.interpret import Questions
        from onesense.explain.lexical_scores import hints
        from onesense.explain.queue import require_no_batch
        from onesense.explain.source import with_contexts

        if not self._wanted.batch:
            require_no_batch(source.run)
        money = self._money
        note(f"Asking {endpoint.model} at {endpoint.base_url}")
        prices = Prices(money.budget, money.price_input, money.price_output, self._wanted.batch)
        with Asking(endpoint, prices, source.count_tokens) as asking:
            folder = self._wanted.senses
            senses = None if folder is None else with_contexts(source).senses(folder)
            questions = partial(
                Questions,
                source,
                features,
                catalog,
                asking.made_from,
                endpoint.model,
                lexical=hints(lexical),
                senses=senses,
            )
            if not self._agreed(asking, questions(), source, features):
                return
            if self._wanted.batch:
                self._queue(asking, questions(), source, catalog)
            else:
                bars = Bars(quiet=self._quiet, live=lambda: str(asking.ledger.spending))
                with bars.stage("Explaining", "questions" if senses else "features") as progress:
                    asking.explain(questions(), catalog, progress, questions().total())
            if self._kinds:
                self._score(asking, with_contexts(source), catalog, features, lexical)
            note(f"Paid for: {asking.ledger.spending}")

    def _agreed(
        self, asking: Asking, questions: Questions, source: AnySource, features: Sequence[int]
    ) -> bool:
        """Say what it will cost; whether to go on."""
        estimates = [asking.estimate(questions)]
        if self._kinds:
            some = [source.evidence(feature) for feature in features[:: max(1, len(features) // 16)]]
            authors = 2 if self._wanted.judge_lexical else 1
            estimates.append(asking.estimate_scores(some, len(features), self._kinds, authors=authors))
        for what, one in zip(("Explaining", "Scoring"), estimates, strict=False):
            note(f"{what}: {one}")
        if self._wanted.batch:
            estimates[0].require_within(asking.ledger.budget)
        if self._money.dry_run:
            return False
        free = all(one.cost_high == 0 or one.requests == 0 for one in estimates)
        if free or self._money.confirmed or not sys.stdin.isatty():
            return True
        import typer

        return typer.confirm("Go on?", err=True)

    def _queue(self, asking: Asking, questions: Questions, source: AnySource, catalog: Catalog) -> None:
        from onesense.explain.queue import explain_through_queue

        for problem in explain_through_queue(asking, questions, source.run, catalog, note):
            warn(problem)

    def _score(
        self, asking: Asking, source: RunSource, catalog: Catalog, features: Sequence[int], lexical: Said
    ) -> None:
        from onesense.explain.source import texts_of
        from onesense.store.explanations import WHOLE, read_explanations

        model = asking.settings.model
        said = dict.fromkeys(features, "")
        for row in read_explanations(catalog, sense=WHOLE, method="llm", model=model):
            if row.feature in said and row.status == "ok":
                said[row.feature] = row.text
        bars = Bars(quiet=self._quiet, live=lambda: str(asking.ledger.spending))
        negatives = source.negatives(self._wanted.text, bars)
        score = partial(asking.score, reader=source.reader, negatives=negatives, catalog=catalog)
        with bars.stage("Scoring", "features") as progress:
            found = score(said, "llm", self._kinds, progress=progress)
        show_scores(found, f"what {model} says, judged by {model}")
        kinds = _of_words(self._kinds)
        if self._wanted.judge_lexical and kinds:
            with bars.stage("Scoring word sets", "features") as progress:
                found = score(texts_of(lexical), "lexical", kinds, progress=progress)
            show_scores(found, f"what word sets say, judged by {model}")
        if kinds:
            self._score_lexical(source, catalog, lexical, negatives)

    def _score_lexical(
        self, source: RunSource, catalog: Catalog, lexical: Said, negatives: Negatives | None
    ) -> None:
        from onesense.explain.lexical_scores import score_lexical

        bars = Bars(quiet=self._quiet)
        negatives = negatives or source.negatives(self._wanted.text, bars)
        with bars.stage("Scoring word sets", "features") as progress:
            found = score_lexical(
                lexical, source.lexicon, _of_words(self._kinds), source.reader, negatives, catalog, progress
            )
        show_scores(found, "what word sets say, judged by word sets")

    def _finish(self, source: AnySource, catalog: Catalog, features: Sequence[int]) -> None:
        from onesense.explain.interpreted import write_interpreted

        show_explanations(catalog, features)
        note(f"Run folder: {source.run.path}")
        path = self._settings.interpreted_features_file
        if path is not None:
            write_interpreted(path, catalog, features)
            note(f"Results saved to '{path}'")


def _of_words(kinds: Sequence[ScoreKind]) -> tuple[ScoreKind, ...]:
    """Scores of an explanation; the intruder needs none."""
    return tuple(kind for kind in kinds if kind != "intruder")


def _score_kinds(typed: str | None) -> tuple[ScoreKind, ...]:
    from onesense.explain.scores.score import SCORE_KINDS

    names = [name.strip() for name in (typed or "").split(",") if name.strip()]
    unknown = [name for name in names if name not in SCORE_KINDS]
    if unknown or (typed is not None and not names):
        raise ConfigurationError(
            f"There is no score {unknown[0] if unknown else typed!r}.",
            hint=f"Choose from: {', '.join(SCORE_KINDS)}, with commas.",
        )
    return tuple(dict.fromkeys(names))  # type: ignore[arg-type]


def _numbers(typed: str | None) -> list[int] | None:
    """Numbers such as 0-99,460; None for all."""
    if typed is None:
        return None
    found: list[int] = []
    for part in typed.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ConfigurationError(
                f"{part.strip()!r} names no features.", hint="Give numbers and ranges, such as 0-99,460."
            )
        if dash and int(last) - int(first) > 10_000_000:
            raise ConfigurationError(f"{part.strip()!r} is too long.", hint="Leave out --features for all.")
        found.extend(range(int(first), int(last or first) + 1))
    return found
