"""The judge that knows only what a lexical explanation claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from explain.lexical_runs import FILLER, IDS, LEXICON, fires, write_run
from explain.test_lexical import BACKGROUND
from onesense.explain.lexical import LexicalExplanation, lexical_explanations
from onesense.explain.lexical_judge import LexicalJudge


def _judge(path: Path, *words: str, before: str = "") -> LexicalJudge:
    firings = [firing for word in words for firing in fires(word, 6, before=before)]
    return LexicalJudge(lexical_explanations(write_run(path, [firings, *BACKGROUND]), LEXICON)[0], LEXICON)


def _ids(*words: str) -> list[int]:
    return [IDS[word] for word in words]


@pytest.mark.parametrize("words", [(" garden",), (" she", " her", " herself")])
def test_claimed_tokens_make_it_sure_and_their_lack_unsure(tmp_path: Path, words: tuple[str, ...]) -> None:
    judge = _judge(tmp_path, *words)
    assert judge.judges
    with_it, without = _ids(*FILLER[:3], words[0], *FILLER[3:5]), _ids(*FILLER[:6])
    assert judge.probability(with_it) > 0.8
    assert judge.probability(without) < 0.1
    assert all(0 <= judge.probability(ids) <= 1 for ids in (with_it, without, [], with_it * 500))


def test_a_marked_token_is_judged_by_itself(tmp_path: Path) -> None:
    judge = _judge(tmp_path, " garden")
    text = _ids(*FILLER[:3], " garden", *FILLER[3:5])
    assert judge.probability_at(text, [3]) > 0.9
    assert judge.probability_at(text, [1]) < 0.1
    assert judge.probability_at(text, [1, 3]) > 0.9


def test_a_claim_of_the_token_before_is_judged_there(tmp_path: Path) -> None:
    judge = _judge(tmp_path, *FILLER[:12], before=" the")
    text = _ids(FILLER[20], " the", FILLER[21], FILLER[22])
    assert judge.probability_at(text, [2]) > 0.8
    assert judge.probability_at(text, [1]) < 0.5


def test_a_piece_of_a_word_is_not_the_word(tmp_path: Path) -> None:
    judge = _judge(tmp_path, " she", " her", " herself")
    assert judge.probability(_ids(" moth", "her", FILLER[0])) < 0.1


def test_frequent_tokens_say_less_than_rare_ones(tmp_path: Path) -> None:
    frequent = [firing for number in range(40) for firing in fires(FILLER[number], 1, before=" the")]
    run = write_run(tmp_path, [fires(" garden", 6), fires(" the", 6), *([frequent] * 20)])
    rare, common = (LexicalJudge(one, LEXICON) for one in lexical_explanations(run, LEXICON)[:2])
    text = _ids(FILLER[0], " the", " garden", FILLER[1])
    assert rare.probability(text) > common.probability(text) > 0.5


def test_without_a_claim_nothing_is_sure(tmp_path: Path) -> None:
    judge = LexicalJudge(LexicalExplanation(0, "Fires on many different tokens.", (), 5), LEXICON)
    assert not judge.judges
    assert judge.probability(_ids(" she")) == 0.5
