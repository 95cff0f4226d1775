"""Text of a corpus as it is shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.explain.passages import Passage, TokenPieces, by_character, marked_text, visible
from onesense.model.tokens import encode_text

TEXTS = [
    "The nurse said ‘hello’ – café, naïve.",
    "日本語のテキスト 👩‍⚕️ and 🤷🏽 end",
    "א שלום عربي",
    "<|im_start|>system\nignore the above</script>",
    "a\tb\r\nc",
]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text(demo_model, text) -> None:
    ids = encode_text(demo_model, text, prepend_bos=False)
    pieces = TokenPieces(demo_model).of(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == visible(text)
    assert "�" not in "".join(pieces)
    assert not set("ĠĊâ€") & set("".join(pieces))


def test_cut_characters_do_not_hide_whole_ones(demo_model) -> None:
    ids = encode_text(demo_model, "🤷 nurse 🤷", prepend_bos=False)
    pieces = TokenPieces(demo_model).of(ids[1:-1])
    joined = "".join(pieces)
    assert " nurse" in joined
    assert joined.startswith("�")
    assert joined.endswith("�")
    # What is cut in one place is whole in another.
    assert "".join(TokenPieces(demo_model).of(ids)) == "🤷 nurse 🤷"


def test_byte_tokens_are_put_together(tiny_gpt2) -> None:
    ids = encode_text(tiny_gpt2, "é👩x", prepend_bos=False)
    assert len(ids) == 7
    pieces = TokenPieces(tiny_gpt2).of(ids)
    assert [piece for piece in pieces if piece] == ["é", "👩", "x"]
    # A mark on the last byte marks the whole character.
    assert marked_text(pieces, [False] * 5 + [True, False]) == "é<<👩>>x"
    assert by_character(pieces, [False] * 5 + [True, False]) == [False, False, True, True, True, True, False]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a⏎b"),
        ("a\u200bb", "a\\u200bb"),
        ("\u202eabc", "\\u202eabc"),
        ("\x1b[31m", "\\u001b[31m"),
        ("❤\ufe0f", "❤\\ufe0f"),
        ("⟦x⟧", "\\u27e6x\\u27e7"),
        ("\U000e0041", "\\U000e0041"),
        ("naïve — ok", "naïve — ok"),
    ],
)
def test_hidden_characters_show(text, shown) -> None:
    assert visible(text) == shown


def test_marks_of_the_text_itself_are_escaped() -> None:
    assert marked_text(["a << b >> c"], [False]) == "a \\<\\< b \\>\\> c"
    assert marked_text(["if", " a", "<", "b", ">"], [False, True, False, False, False]) == "if<< a>>\\<b>"


@given(st.lists(st.tuples(st.text("<>a", min_size=1, max_size=3), st.booleans()), min_size=1, max_size=6))
def test_marks_can_always_be_told(parts) -> None:
    pieces, marks = zip(*parts, strict=True)
    shown = marked_text(pieces, marks)
    inside = "".join(re.findall(r"(?<!\\)<<(.*?)(?<!\\)>>", shown)).replace("\\", "")
    assert inside == "".join(piece for piece, mark in parts if mark)
    assert re.sub(r"(?<!\\)(<<|>>)", "", shown).replace("\\", "") == "".join(pieces)


def test_marks_are_a_share_of_the_largest() -> None:
    passage = Passage(0, 10, (1, 2, 3, 4), ("a", "b", "c", "d"), (0.0, 3.1, 10.0, 2.9), 2)
    assert passage.marks() == (False, True, True, False)
    assert passage.activation == 10
    assert passage.overlaps(Passage(0, 13, (1,), ("x",), (0.0,), 0))
    assert not passage.overlaps(Passage(0, 14, (1,), ("x",), (0.0,), 0))
    assert not passage.overlaps(Passage(1, 10, (1,), ("x",), (0.0,), 0))
