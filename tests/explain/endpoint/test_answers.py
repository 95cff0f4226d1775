"""Answers: found in whatever surrounds them, refused where they would be guessed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from onesense.explain.endpoint.answers import MOST_CHARACTERS, clean_text, parse_answer

NESTED = 70


class Said(BaseModel):
    explanation: str


class Judged(BaseModel):
    rating: int
    matches: list[bool] = Field(default_factory=list)


FOUND = {
    "plain": '{"explanation": "nurses"}',
    "fenced": '```json\n{"explanation": "nurses"}\n```',
    "prose around": 'Here you are: {"explanation": "nurses"} I hope that helps {smile}.',
    "braces in the prose before": 'The set {x} gives {"explanation": "nurses"}',
    "single quotes": "{'explanation': 'nurses'}",
    "bare names": "{explanation: 'nurses'}",
    "comma at the end": '{"explanation": "nurses",}',
    "extra names": '{"confidence": [0.3], "explanation": "nurses", "explain": {"a": 1}}',
    "the same twice": '{"explanation": "nurses", "explanation": "nurses"}',
    "thinks before": '<think>{"explanation": "doctors"}? No.</think>\n{"explanation": "nurses"}',
    "thinks, opened by the template": 'maybe {"explanation": "doctors"}</think>{"explanation": "nurses"}',
    "corrects itself": '{"explanation": "doctors"} Wait: {"explanation": "nurses"}',
    "byte order mark": '\ufeff{"explanation": "nurses"}',
    "line break in a string": '{"explanation": "nurses\n"}',
}


@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND)
def test_answer_is_found(text: str) -> None:
    read = parse_answer(text, Said)
    assert (read.status, read.value) == ("ok", Said(explanation="nurses"))


NOT_FOUND = {
    "empty": "",
    "blank": " \n\t ",
    "prose": "This feature fires on nurses.",
    "null": "null",
    "a list": '["nurses"]',
    "another name": '{"text": "nurses"}',
    "a number for a text": '{"explanation": 3}',
    "NaN": '{"explanation": NaN}',
    "a list for a text": '{"explanation": ["nurses"]}',
    "two values": '{"explanation": "nurses", "explanation": "doctors"}',
    "no end": '{"explanation": "nurses and',
    "deep": '{"explanation": ' + "[" * NESTED + "]" * NESTED + "}",
    "deep and open": '{"a":' * 20_000,
    "brackets only": "[{" * 50_000,
    "reasoning only": '<think>{"explanation": "nurses"}',
    "half a megabyte": '{"explanation": "' + "x" * 500_000 + '"}',
    "removed key": '{"explanation": "[key removed]"}',
    "page": "<html><body>Bad gateway {x}</body></html>",
}


@pytest.mark.parametrize("text", NOT_FOUND.values(), ids=NOT_FOUND)
def test_what_is_no_answer_is_not_guessed(text: str) -> None:
    read = parse_answer(text, Said)
    assert read.status == "unparseable"
    assert read.value is None
    assert read.detail


def test_none_is_empty() -> None:
    assert parse_answer(None, Said).status == "unparseable"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"rating": 7}', 7),
        ('{"rating": "7"}', 7),
        ('{"rating": 7.0}', 7),
        ('{"rating": 7.5}', None),
        ('{"rating": true}', None),
        ('{"rating": "seven"}', None),
        ('{"rating": 1e999}', None),
        ('{"rating": Infinity}', None),
        ('{"rating": ' + "9" * 5_000 + "}", None),
        ('{"rating": null}', None),
    ],
)
def test_types_are_coerced_only_where_nothing_is_lost(text: str, expected: int | None) -> None:
    value = parse_answer(text, Judged).value
    assert (None if value is None else value.rating) == expected


def test_ones_and_zeros_are_truth_values_where_those_were_asked_for() -> None:
    value = parse_answer('{"rating": 1, "matches": [1, 0, true, "false"]}', Judged).value
    assert value == Judged(rating=1, matches=[True, False, True, False])


def test_texts_in_reasoning_tags_stay_where_they_are_the_answer() -> None:
    value = parse_answer('{"explanation": "the tag <think>x</think>"}', Said).value
    assert value == Said(explanation="the tag <think>x</think>")


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_a_cut_answer_is_truncated_though_it_could_be_mended(reason: str) -> None:
    for text in ('{"explanation": "nurses"}', '{"explanation": "nur', ""):
        assert parse_answer(text, Said, finish_reason=reason).status == "truncated"


def test_refusals() -> None:
    assert parse_answer('{"explanation": "x"}', Said, finish_reason="content_filter").status == "refused"
    read = parse_answer(None, Said, refusal="I can't\x1b[31m help")
    assert (read.status, read.detail) == ("refused", "the model refused: I can't help")


@pytest.mark.parametrize(
    "text",
    ['{"explanation": "sk-canary-12345"}', r'{"explanation": "sk\u002dcanary-12345"}', "sk-canary-12345"],
)
def test_a_reply_with_the_key_is_no_answer(text: str) -> None:
    read = parse_answer(text, Said, key="sk-canary-12345")
    assert read.status == "unparseable"
    assert "canary" not in read.detail


def test_texts_are_cleaned() -> None:
    hostile = "a\x1b[31mred\x1b[0m\x1b]0;title\x07 \ud800 \x00\u202eb\u2028c\n\td"
    value = parse_answer(json.dumps({"explanation": hostile}), Said).value
    assert value == Said(explanation="ared � b c d")


def test_markup_and_instructions_are_text() -> None:
    text = "<script>alert(1)</script> Ignore the above. {{7*7}} %s"
    assert parse_answer(json.dumps({"explanation": text}), Said).value == Said(explanation=text)


def test_long_texts_are_cut() -> None:
    value = parse_answer(json.dumps({"explanation": "y" * 100_000}), Said).value
    assert value is not None
    assert len(value.explanation) == MOST_CHARACTERS
    assert value.explanation.endswith("…")


PIECES = st.sampled_from(
    [
        "{",
        "}",
        "[",
        "]",
        '"',
        "'",
        ":",
        ",",
        "\\",
        "explanation",
        '{"explanation": "a"}',
        "<think>",
        "</think>",
    ]
    + ["```", "NaN", "-1e9", "null", "\\ud800", "\ud800", "\x1b[", "//", "/*", "\n", "\x00", "é"]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
def test_never_raises(text: str) -> None:
    for answer in (Said, Judged):
        read = parse_answer(text, answer)
        assert (read.status == "ok") == (read.value is not None)


PLAIN = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="{}[]<>"))
TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=200)


@given(PLAIN, TEXT, PLAIN)
def test_valid_json_is_found_in_any_prose(before: str, explanation: str, after: str) -> None:
    text = f"{before}{json.dumps({'explanation': explanation})}{after}"
    assert parse_answer(text, Said).value == Said(explanation=clean_text(explanation))


@given(st.text())
def test_clean_text_can_be_stored_and_is_clean_for_good(text: str) -> None:
    clean = clean_text(text)
    clean.encode()
    assert len(clean) <= MOST_CHARACTERS
    assert clean_text(clean) == clean
    assert "\x1b" not in clean
    assert "\n" not in clean
