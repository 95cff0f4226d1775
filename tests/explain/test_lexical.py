"""Lexical explanations of features whose rule is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain.lexical_runs import FILLER, IDS, LEXICON, Firing, fires, write_run
from onesense.errors import IncompatibleError
from onesense.explain.lexical import (
    LexicalExplanation,
    Lexicon,
    explain_tokens,
    explain_top_words,
    lexical_explanations,
)
from onesense.explain.lexical_contexts import WordPlaces, read_peak_tokens
from onesense.explain.lexical_words import readable, stem
from onesense.features.enrichment import NO_TOKEN
from onesense.features.word_sets import WordSet

# Features that fire all over, so that the text has a background.
BACKGROUND = [
    [firing for word in FILLER[start : start + 12] for firing in fires(word, 3)] for start in range(0, 60, 12)
]


def _explained(path: Path, *features: list[Firing], **more: object) -> list[LexicalExplanation]:
    run = write_run(path, [*features, *BACKGROUND])
    return lexical_explanations(run, LEXICON, **more)[: len(features)]  # type: ignore[arg-type]


def test_a_set_is_named_with_its_words_and_their_share(tmp_path: Path) -> None:
    firings = [*fires(" she", 10), *fires(" her", 6), *fires(" herself", 2), *fires(" blorp1x", 2)]
    (one,) = _explained(tmp_path, firings)
    assert one.text == "Fires on women's pronouns (she, her, herself; 90 %)."
    (claim,) = one.claims
    assert (claim.view, claim.word_set) == (
        "peak",
        "pronouns_women",
    )  # not also "pronouns", which has as much
    assert claim.share == pytest.approx(0.9)
    assert claim.q is not None
    assert claim.q < 0.01
    assert one.contexts == 20


def test_two_sets_are_named_where_each_says_something(tmp_path: Path) -> None:
    firings = [firing for word in (" she", " her", " herself") for firing in fires(word, 4)] + [
        firing for word in (" mother", " sister", " aunt", " wife") for firing in fires(word, 2)
    ]
    (one,) = _explained(tmp_path, firings)
    assert [claim.word_set for claim in one.claims] == ["pronouns_women", "kinship_women"]
    assert one.text.startswith(
        "Fires on women's pronouns (she, her, herself; 60 %) and family words for women ("
    )


def test_shares_are_of_the_activation(tmp_path: Path) -> None:
    firings = [*fires(" garden", 6, activation=3.0), *fires(" kitchen", 6, activation=1.0)]
    (one,) = _explained(tmp_path, firings)
    assert one.text == "Fires mostly on ‘garden’ (75 %), ‘kitchen’ (25 %)."
    assert set(one.claims[0].tokens) == {IDS[" garden"], IDS[" kitchen"]}


def test_one_word_and_its_forms_are_one_word(tmp_path: Path) -> None:
    forms = [firing for word in (" love", " loved", " loves", " loving") for firing in fires(word, 4)]
    single, love = _explained(tmp_path, fires(" garden", 12), forms)
    assert single.text == "Fires on one word, ‘garden’ (100 %)."
    assert love.text == "Fires on one word, ‘love/loved/loves’ (100 %)."
    assert love.claims[0].word_set is None  # not "feelings"


def test_nothing_is_said_where_nothing_stands_out(tmp_path: Path) -> None:
    none, never = _explained(tmp_path, [firing for word in FILLER[:60] for firing in fires(word, 1)], [])
    assert none.text == "Fires on many different tokens; no set of words stands out."
    assert none.claims == ()
    assert never.text == "Never fires in the text that was read."
    assert never.contexts == 0


def test_what_stands_before_the_peak_is_told(tmp_path: Path) -> None:
    firings = [
        firing
        for number, word in enumerate(FILLER[:60])
        for firing in fires(word, 1, before=(" the", " a", " an")[number % 3])
    ]
    (one,) = _explained(tmp_path, firings)
    assert one.text == "Fires right after articles (the, a, an; 100 %)."
    assert [claim.view for claim in one.claims] == ["before"]


def test_a_feature_of_the_first_token_says_so(tmp_path: Path) -> None:
    firings = [Firing((word, *FILLER[:4]), 0, document=number) for number, word in enumerate(FILLER[:20])]
    (one,) = _explained(tmp_path, firings)
    assert one.text == "Fires at the beginning of what the model reads (100 %)."


def test_a_piece_of_a_word_is_no_word(tmp_path: Path) -> None:
    within = [Firing((*FILLER[:2], " moth", "her", *FILLER[3:5]), 3, document=number) for number in range(12)]
    by_itself = [Firing((*FILLER[:2], ",", "her", *FILLER[3:5]), 3, document=number) for number in range(12)]
    piece, word = _explained(tmp_path, within, by_itself)
    assert piece.text.startswith("Fires on one word, ‘…her’ (100 %)")
    assert word.text.startswith("Fires on one word, ‘her’ (100 %)")
    assert piece.claims[0].tokens != word.claims[0].tokens


def test_promoted_and_suppressed_sets_are_told(tmp_path: Path) -> None:
    women, men = [" she", " her", " herself", "She"], [" he", " him", " his", " himself"]
    run = write_run(tmp_path, [[], *BACKGROUND], [women, *[[]] * 5], [men, *[[]] * 5])
    one = lexical_explanations(run, LEXICON)[0]
    assert one.text == (
        "Never fires in the text that was read; promotes women's pronouns (she, her, herself); "
        "suppresses men's pronouns (he, him, his, himself)."
    )


def test_only_the_documents_asked_for_count(tmp_path: Path) -> None:
    firings = [*fires(" garden", 10, document=1), *fires(" kitchen", 10, document=2)]
    one, other = (
        _explained(tmp_path / str(wanted), firings, documents=lambda number, wanted=wanted: number != wanted)[
            0
        ]
        for wanted in (1, 2)
    )
    assert one.text == "Fires on one word, ‘kitchen’ (100 %)."
    assert other.text == "Fires on one word, ‘garden’ (100 %)."
    (neither,) = _explained(tmp_path / "none", firings, documents=lambda number: number > 2)
    assert neither.text == "Never fires in the text that was read."


def test_a_context_that_is_kept_twice_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path, [fires(" garden", 5), *BACKGROUND])
    peaks = read_peak_tokens(run, 6, LEXICON.places)
    assert int((peaks.activation[0] > 0).sum()) == 5
    assert (peaks.tokens["peak"][0] == IDS[" garden"]).sum() == 5
    # 5 contexts of 7 tokens, and those of the background.
    assert peaks.population.sum() == 7 * (5 + sum(map(len, BACKGROUND)))


def test_the_same_run_gives_the_same_words(tmp_path: Path) -> None:
    run = write_run(tmp_path, [fires(" garden", 5), fires(" Monday", 4) + fires(" Friday", 4), *BACKGROUND])
    assert lexical_explanations(run, LEXICON) == lexical_explanations(run, LEXICON)


def test_many_blocks_are_read(tmp_path: Path) -> None:
    features = [fires(" garden", 3)] * 300 + [fires(" Monday", 4)]
    run = write_run(tmp_path, features)
    explained = lexical_explanations(run, LEXICON)
    assert [one.feature for one in explained] == list(range(301))
    assert "Monday" in explained[300].text


def test_a_users_set_is_used(tmp_path: Path) -> None:
    rooms = WordSet("rooms", "rooms of my house", frozenset({"garden", "kitchen"}))
    run = write_run(tmp_path, [[*fires(" garden", 6), *fires(" kitchen", 7)], *BACKGROUND])
    one = lexical_explanations(run, Lexicon.of(list(IDS), [rooms]))[0]
    assert one.text == "Fires on rooms of my house (kitchen, garden; 100 %)."


def test_a_run_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, [fires(" garden", 3)])
    with pytest.raises(IncompatibleError, match="not among the 3 of this vocabulary"):
        lexical_explanations(run, Lexicon.of([" a", " b", " c"]))


def test_top_words_alone_are_enough() -> None:
    rows = [
        [" she", " her", " She", " herself", " xyzzy"],
        *([f" blorp{row}x{at}" for at in range(5)] for row in range(60)),
    ]
    explained = explain_top_words(rows)
    assert explained[0].text == "Promotes women's pronouns (she, her, herself)."
    assert explained[1].text == "Promotes many different tokens; no set of words stands out."
    assert explain_top_words([[], [" a"]])[0].claims == ()
    assert explain_top_words([]) == []


def test_no_feature_at_all() -> None:
    assert explain_tokens(LEXICON, np.zeros((0, 10), np.int64)) == []


@given(st.permutations(range(6)))
def test_permuting_features_permutes_explanations(order: list[int]) -> None:
    promoted = np.array(
        [
            [IDS[" she"], IDS[" her"], IDS[" herself"]],
            *([IDS[word] for word in FILLER[at : at + 3]] for at in range(5)),
        ]
    )
    texts = [one.text for one in explain_tokens(LEXICON, promoted)]
    assert [one.text for one in explain_tokens(LEXICON, promoted[order])] == [texts[at] for at in order]


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" the", "the"),
        (" ", "a space"),
        ("", "a space"),
        ("\n", "a line break"),
        ("\n\n  ", "line breaks"),
        ("   ", "white space"),
        ("a\nb", "a⏎b"),
        ("\u202eabc", "\\u202eabc"),
        ("\u200b", "\\u200b"),
        ("\U000e0041", "\\U000e0041"),
        ("\x1b[31m", "\\u001b[31m"),
        ("�", "part of a character"),
        ("x" * 50, "x" * 23 + "…"),
    ],
)
def test_tokens_are_readable(token: str, shown: str) -> None:
    assert readable(token) == shown


def test_stems_put_forms_together_and_other_words_apart() -> None:
    assert len({stem(word) for word in (" love", "loved", "Loves", " loving")}) == 1
    assert len({stem(word) for word in ("try", "tries", "tried", "trying")}) == 1
    assert len({stem(word) for word in ("run", "running", "runs")}) == 1
    assert len({stem(word) for word in ("she", "her", "hers", "his", "this", "thing", "king", "")}) == 7


def test_places_within_words() -> None:
    places = WordPlaces([" moth", "her", ",", "7", "�"])
    ids = np.array([[0, 1, 2, 1], [1, 1, 3, 1]])
    assert places.placed(ids).tolist() == [[0, 6, 2, 1], [1, 6, 3, 1]]
    assert places.placed(np.array([NO_TOKEN + 1, 2**16 - 1])).tolist() == [0, 4]
