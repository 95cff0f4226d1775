"""Completions as real servers send them, and as they should not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from onesense.explain.endpoint.chat import Usage
from onesense.explain.endpoint.completion import RawReply, read_completion, read_usage, reply_from
from onesense.explain.endpoint.secrecy import KEY_REMOVED

GOOD = '{"explanation": "nurses"}'
KEY = "sk-canary-12345"


class Said(BaseModel):
    explanation: str


def completion(message: Any, finish_reason: Any = "stop") -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish_reason}]}


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (completion({"content": GOOD}), "ok"),
        (completion({"content": GOOD}, None), "ok"),
        (completion({"content": [{"type": "text", "text": GOOD}]}), "ok"),
        (completion({"content": GOOD, "reasoning_content": '{"explanation": "doctors"}'}), "ok"),
        (completion({"content": GOOD}, "length"), "truncated"),
        (completion({"content": None, "reasoning_content": "hm"}, "length"), "truncated"),
        (completion({"content": GOOD}, "content_filter"), "refused"),
        (completion({"content": None, "refusal": "I can't."}), "refused"),
        (completion({"content": None}), "unparseable"),
        (completion({"content": None, "reasoning": GOOD}), "unparseable"),
        (completion({"content": ""}), "unparseable"),
        (completion({"content": None, "tool_calls": [{"id": "x"}]}, "tool_calls"), "unparseable"),
        (completion({"content": 5}), "unparseable"),
        (completion(None), "unparseable"),
        (completion({"content": "\ud800"}), "unparseable"),
        ({"choices": []}, "unparseable"),
        ({"choices": [None]}, "unparseable"),
        ({"choices": [{}]}, "unparseable"),
    ],
)
def test_status(payload: Any, status: str) -> None:
    raw = read_completion(payload)
    assert raw is not None
    reply = reply_from(raw, Said)
    assert reply.status == status
    assert reply.value == (Said(explanation="nurses") if status == "ok" else None)
    assert (reply.detail == "") == (status == "ok")


def test_a_tool_call_is_named() -> None:
    raw = read_completion(completion({"content": None, "tool_calls": [{"id": "x"}]}))
    assert raw is not None
    assert "tool" in reply_from(raw, Said).detail


@pytest.mark.parametrize("payload", [None, 3, [], "x", {}, {"choices": None}, {"choices": {}}, {"error": {}}])
def test_no_completion(payload: Any) -> None:
    assert read_completion(payload) is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({"prompt_tokens": 9, "completion_tokens": 3}, Usage(9, 0, 3)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(9, 4, 0)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4}, Usage(9, 4, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 40}}, Usage(9, 9, 0)),
        ({"prompt_tokens": -9, "completion_tokens": "3"}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": 10**30}, Usage()),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, Usage(9, 0, 0)),
    ],
)
def test_usage(usage: Any, expected: Usage) -> None:
    assert read_usage(usage) == expected


def test_the_key_is_not_stored_and_the_reply_stays_no_answer() -> None:
    raw = RawReply(f'{{"explanation": "your key is {KEY}"}}', refusal=KEY, finish_reason=KEY).without_key(KEY)
    assert KEY not in repr(raw)
    assert KEY_REMOVED in raw.text
    assert reply_from(RawReply(raw.text), Said).status == "unparseable"
