"""Word sets: packaged, by rule, and of the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onesense.errors import FormatError, NotFoundError
from onesense.features.word_sets import WordSet, load_word_sets, membership, packaged_word_sets, token_texts


def _sets_of(token: str, *, within: bool = False) -> set[str]:
    sets = packaged_word_sets()
    members = membership(sets, [token])[:, int(within)]
    return {word_set.name for word_set, member in zip(sets, members, strict=True) if member}


def test_packaged_sets_are_described_and_sensible() -> None:
    sets = packaged_word_sets()
    assert len({word_set.name for word_set in sets}) == len(sets)
    assert len({word_set.description for word_set in sets}) == len(sets)
    for word_set in sets:
        assert word_set.description
        if word_set.rule is None:
            assert len(word_set.words) >= 2, word_set.name
            assert word_set.exact_case or word_set.words == {word.casefold() for word in word_set.words}


@pytest.mark.parametrize(
    ("token", "inside", "outside"),
    [
        (" She", {"pronouns", "pronouns_women", "capitalised"}, {"pronouns_men"}),
        (" mothers", {"kinship", "kinship_women", "ending_s"}, {"kinship_men"}),
        (" May", {"months"}, set()),
        (" may", {"modal_verbs"}, {"months", "names_women"}),
        (" nurse", {"occupations"}, {"ending_s"}),
        (" walking", {"ending_ing", "verbs_moving"}, set()),
        (" thing", set(), {"ending_ing"}),
        ("ing", set(), {"ending_ing"}),
        (" 1984", {"digits", "years"}, set()),
        (" 984", {"digits"}, {"years"}),
        (" мир", {"script_cyrillic"}, {"script_greek", "letters_accented"}),
        ("中文", {"script_han"}, {"script_japanese"}),
        ("の", {"script_japanese"}, {"script_han"}),
        (" été", {"letters_accented"}, {"script_greek"}),
        ("\n\n", {"line_breaks", "white_space"}, {"punctuation"}),
        (" ", {"white_space"}, {"line_breaks"}),
        ("?”", {"question_marks", "sentence_ends", "punctuation"}, {"full_stops"}),
        (" (", {"brackets_opening", "punctuation"}, {"brackets_closing"}),
        ("�", {"half_characters"}, {"white_space"}),
        (" NASA", {"all_capitals"}, {"capitalised"}),
        ("", {"white_space"}, set()),
    ],
)
def test_tokens_are_in_their_sets(token: str, inside: set[str], outside: set[str]) -> None:
    found = _sets_of(token)
    assert inside <= found
    assert not outside & found


def test_within_a_word_a_token_is_no_word() -> None:
    assert _sets_of("her", within=True) == {"word_continuations", "piece_er"}
    assert "piece_ing" in _sets_of("ing", within=True)
    assert "digits" not in _sets_of("7", within=True)  # "a7" does not go on a word
    assert "script_cyrillic" in _sets_of("мир", within=True)
    assert _sets_of(" her", within=True) == set()  # begins with a space: cannot go on a word


def test_a_users_file_is_read_and_takes_the_place_of_a_packaged_set(tmp_path: Path) -> None:
    own = tmp_path / "months.txt"
    own.write_text("\ufeff# lunar months\n\nNisan\n# a comment\r\n  Iyar  \n", encoding="utf-8")
    exact = tmp_path / "ships.txt"
    exact.write_text("# case matters\nBounty\n", encoding="utf-8")
    sets = {word_set.name: word_set for word_set in load_word_sets([own, str(exact)])}
    assert sets["months"] == WordSet("months", "lunar months", frozenset({"nisan", "iyar"}))
    assert sets["ships"] == WordSet(
        "ships", "words of the list “ships”", frozenset({"Bounty"}), exact_case=True
    )
    assert len(sets) == len(packaged_word_sets()) + 1
    assert list(sets) == sorted(sets)
    members = membership(list(sets.values()), [" BOUNTY", "Bounty", "NISAN"])
    at = {name: members[row, :3].tolist() for row, name in enumerate(sets)}
    assert (at["ships"], at["months"]) == ([False, True, False], [False, False, True])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no word"),
        (b"# only a comment\n", "holds no word"),
        (b"one\ntwo\n\xff\xfe\n", "line 3: not UTF-8"),
        (b"# places\nParis\nNew York\n", "line 3: 'New York' is more than one word"),
    ],
)
def test_bad_files_are_refused_with_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        load_word_sets([path])
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_folders_missing_files_and_double_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is a folder"):
        load_word_sets([tmp_path])
    with pytest.raises(NotFoundError, match=r"no file .*absent\.txt"):
        load_word_sets([tmp_path / "absent.txt"])
    (tmp_path / "more").mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "more" / "a.txt"):
        path.write_text("word\n")
    with pytest.raises(FormatError, match="Two files of words are named `a`"):
        load_word_sets([tmp_path / "a.txt", tmp_path / "more" / "a.txt"])


def test_spellings_of_tokenizers_become_text() -> None:
    assert token_texts(["Ġthe", "the", "Ċ", "âĢ"]) == [" the", "the", "\n", "�"]
    assert token_texts(["▁the", "the", "é"]) == [" the", "the", "é"]
    assert token_texts(["Ġthe", "x\ud800"])[0] == " the"


def test_membership_of_nothing() -> None:
    assert membership(packaged_word_sets(), []).shape == (len(packaged_word_sets()), 0)
    assert membership([], [" a", " b"]).shape == (0, 4)
    assert membership([], [" a"]).dtype == np.bool_
