"""Scores of a run in its catalogue, by a judge that knows and by word sets."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explain.planted import FEATURES, SILENT, Oracle, Planted, rule
from onesense.errors import BudgetReachedError
from onesense.explain.endpoint.chat import Usage
from onesense.explain.lexical import LexicalExplanation, Lexicon, lexical_explanations
from onesense.explain.lexical_claims import Claim
from onesense.explain.lexical_scores import WordSetJudge, hints, score_lexical
from onesense.explain.scores.judge import MOST_CONFIDENT, Judgement, ShownContext
from onesense.explain.scores.summary import ScoreSummary
from onesense.explain.scoring import Scored, score_explanations
from onesense.features.word_sets import load_word_sets
from onesense.store.catalog import Catalog
from onesense.store.explanations import ScoreRow, read_scores

RULES = {feature: rule(feature) for feature in range(FEATURES)}


@pytest.fixture
def catalog(planted: Planted, tmp_path: Path) -> Iterator[Catalog]:
    """Of the planted run, in a copy that a test may write into."""
    with Catalog(Path(shutil.copy(planted.run.catalog_path, tmp_path / "catalog.sqlite"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def lexicon(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Lexicon:
    """Word sets over the planted words; one of them holds the words of two features."""
    path = tmp_path_factory.mktemp("sets") / "pair.txt"
    path.write_text("w2\nw3\nw900\n")
    words = planted.model.token_strings(range(planted.model.vocab_size))
    return Lexicon.of(words, load_word_sets([path]))


@pytest.fixture(scope="module")
def said(planted: Planted, lexicon: Lexicon) -> dict[int, LexicalExplanation]:
    found = lexical_explanations(planted.run, lexicon)
    return {feature: found[feature] for feature in range(FEATURES + 1)}


def _score(
    planted: Planted, catalog: Catalog, judge: Any, explanations: dict[int, str], kinds: Any, **given: Any
) -> tuple[list[ScoreSummary], list[int]]:
    told: list[int] = []
    scored = Scored(explanations, "llm", "author", judge, "judge", given.pop("at_once", 1))
    with planted.reader() as reader:
        found = asyncio.run(
            score_explanations(
                scored, kinds, reader, planted.negatives(), catalog, lambda done, _: told.append(done)
            )
        )
    return found, told


def test_rows_stand_beside_the_explanation_of_another_feature(planted: Planted, catalog: Catalog) -> None:
    explanations = {**RULES, SILENT: rule(0)}
    summaries, told = _score(planted, catalog, Oracle(), explanations, ["detection", "fuzz", "intruder"])
    assert told == list(range(1, FEATURES + 2))
    assert [one.kind for one in summaries] == ["detection", "fuzz", "intruder"]
    assert {one.features for one in summaries} == {FEATURES}
    rows = {(row.feature, row.kind): row for row in read_scores(catalog)}
    assert len(rows) == 3 * (FEATURES + 1)
    for kind, author in (("detection", "author"), ("fuzz", "author"), ("intruder", "")):
        row = rows[1, kind]
        assert (row.method, row.model, row.judge) == ("llm" if author else "none", author, "judge")
        assert row.value is not None
        assert row.value >= 0.95
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.value <= row.high
        assert row.missing == 0
        assert row.items > 0
        silent = rows[SILENT, kind]
        assert (silent.value, silent.baseline if author else None, silent.items) == (None, None, 0)
        assert silent.detail
    baselines = [rows[feature, "detection"].baseline for feature in range(FEATURES)]
    assert all(value is not None and value <= 0.75 for value in baselines)
    assert {rows[feature, "intruder"].baseline for feature in range(FEATURES)} == {0.2}
    assert rows[1, "intruder"].auroc is None
    assert rows[1, "detection"].auroc == 1


def test_many_at_once_score_the_same(planted: Planted, catalog: Catalog) -> None:
    _score(planted, catalog, Oracle(), RULES, ["detection", "fuzz"])
    one_by_one = read_scores(catalog)
    _score(planted, catalog, Oracle(), RULES, ["detection", "fuzz"], at_once=5)
    assert read_scores(catalog) == one_by_one


class Faulty(Oracle):
    """Answers badly after some questions, or stops."""

    def __init__(self, good: int, error: Exception | None = None) -> None:
        super().__init__()
        self._left, self._error = good, error

    async def judge(self, explanation: str, contexts: Any) -> Judgement:
        self._left -= 1
        if self._left >= 0:
            return await super().judge(explanation, contexts)
        if self._error is not None:
            raise self._error
        return Judgement(None, "refused", "It would rather not.", Usage(1, 0, 1))


def test_what_is_missing_is_no_score(planted: Planted, catalog: Catalog) -> None:
    (summary,), _ = _score(planted, catalog, Faulty(0), RULES, ["detection"])
    assert (summary.accuracy, summary.shuffled, summary.features) == (None, None, 0)
    for row in read_scores(catalog):
        assert (row.value, row.low, row.high, row.auroc, row.baseline) == (None,) * 5
        assert row.items == 0
        assert row.missing >= 8
        assert "refused. It would rather not." in row.detail


def test_features_without_an_explanation_say_so(planted: Planted, catalog: Catalog) -> None:
    (summary,), _ = _score(planted, catalog, Oracle(), {**RULES, 2: "", 5: ""}, ["detection"])
    assert (summary.features, summary.without) == (FEATURES - 2, 2)
    rows = {row.feature: row for row in read_scores(catalog)}
    assert rows[2].value is None
    assert rows[2].detail == "There is no explanation."
    assert rows[2].missing == 0


def test_where_the_budget_ends_scores_are_kept(planted: Planted, catalog: Catalog) -> None:
    with pytest.raises(BudgetReachedError):
        # Two questions a feature: its own explanation and another one's.
        _score(planted, catalog, Faulty(8, BudgetReachedError("Reached.")), RULES, ["detection"])
    assert [row.feature for row in read_scores(catalog)] == [0, 1, 2, 3]


def _contexts(planted: Planted, *words: str, marked: int | None = None) -> ShownContext:
    vocabulary = planted.model.require_tokenizer().get_vocab()
    ids = tuple(vocabulary[word] for word in words)
    return ShownContext(ids, words, tuple(place == marked for place in range(len(words))))


def test_word_sets_judge_by_what_they_say(
    planted: Planted, said: dict[int, LexicalExplanation], lexicon: Lexicon
) -> None:
    judge = WordSetJudge(said, lexicon)
    contexts = [
        _contexts(planted, "w20", "w4", "w30"),
        _contexts(planted, "w20", "w21", "w30"),
        _contexts(planted, "w20", "w4", "w30", marked=1),
        _contexts(planted, "w20", "w4", "w30", marked=0),
    ]
    judgement = asyncio.run(judge.judge(said[4].text, contexts))
    assert judgement.status == "ok"
    assert judgement.usage == Usage()
    sure, unsure, marked, elsewhere = judgement.confidences or ()
    assert min(sure, marked) > 0.8 * MOST_CONFIDENT
    assert max(unsure, elsewhere) < 0.2 * MOST_CONFIDENT
    intruder = asyncio.run(judge.find_intruder(contexts))
    assert intruder.confidences is None
    assert intruder.detail


def test_a_language_model_is_told_of_sets_only() -> None:
    listed = Claim("peak", None, "", ("w4",), (7,), 0.9, 0.1)
    of_a_set = Claim("promoted", "pair", "words of a pair", ("w2", "w3"), (), 0.9, 0.1, 0.01)
    explanations = {
        0: LexicalExplanation(0, "Fires on w4.", (listed,), 5),
        1: LexicalExplanation(1, "Promotes words of a pair.", (listed, of_a_set), 5),
        2: LexicalExplanation(2, "Nothing stands out.", (), 5),
    }
    assert hints(explanations) == {1: "Promotes words of a pair."}


def test_scores_of_word_sets_by_word_sets(
    planted: Planted, catalog: Catalog, said: dict[int, LexicalExplanation], lexicon: Lexicon
) -> None:
    with planted.reader() as reader:
        detection, fuzz = score_lexical(
            said, lexicon, ["detection", "fuzz"], reader, planted.negatives(), catalog, lambda *_: None
        )
    for summary in (detection, fuzz):
        assert summary.accuracy is not None
        assert summary.gain is not None
        assert summary.accuracy.value > 0.9
        assert summary.gain.low > 0.2
    rows = read_scores(catalog)
    assert {(row.method, row.model, row.judge) for row in rows} == {("lexical", "", "lexical")}
    known: list[ScoreRow] = [row for row in rows if row.feature != SILENT]
    assert all(row.value is not None and row.baseline is not None for row in known)
    assert {row.value for row in rows if row.feature == SILENT} == {None}
