"""A chat completion as endpoints send it: read leniently, since every server has its own gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from onesense.explain.endpoint.answers import parse_answer, well_formed
from onesense.explain.endpoint.chat import Answer, ChatReply, Usage
from onesense.explain.endpoint.secrecy import scrub

_MOST_TEXT = 250_000
_MOST_TOKENS = 2**48


@dataclass(frozen=True, slots=True)
class RawReply:
    """What a model wrote, before it is read: what the cache keeps, so that reading can become better later.

    Attributes:
        text: The content; empty where there is none. Never a separate field for reasoning.
        finish_reason: Why the model stopped, in the endpoint's word.
        refusal: The endpoint's field for refusals.
        fault: Why there is no text, where that is known.
        usage: Tokens as the endpoint counts them.
    """

    text: str
    finish_reason: str = "stop"
    refusal: str = ""
    fault: str = ""
    usage: Usage = field(default_factory=Usage)

    def without_key(self, key: str) -> RawReply:
        """The same reply as it may be stored."""
        return replace(
            self,
            text=scrub(self.text, key),
            finish_reason=scrub(self.finish_reason, key),
            refusal=scrub(self.refusal, key),
        )


def read_completion(payload: object) -> RawReply | None:
    """Take the first choice out of a completion.

    Args:
        payload: The decoded JSON of a reply.

    Returns:
        The reply, with a ``fault`` where it has no text; None where this is no completion at all.
    """
    if not isinstance(payload, Mapping) or not isinstance(payload.get("choices"), list):
        return None
    usage = read_usage(payload.get("usage"))
    choices = payload["choices"]
    if not choices or not isinstance(choices[0], Mapping):
        return RawReply("", fault="the reply has no choices", usage=usage)
    choice = choices[0]
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    text = _text(message.get("content"))
    fault = ""
    if not text:
        calls = message.get("tool_calls") or message.get("function_call")
        fault = "the model called a tool instead of answering" if calls else "the reply has no content"
    return RawReply(
        well_formed(text)[:_MOST_TEXT],
        well_formed(_text(choice.get("finish_reason")))[:100],
        well_formed(_text(message.get("refusal")))[:2_000],
        fault,
        usage,
    )


def read_usage(usage: object) -> Usage:
    """Tokens of a reply; 0 for what the endpoint does not say or cannot have meant."""
    if not isinstance(usage, Mapping):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    prompt = _count(usage.get("prompt_tokens"))
    return Usage(
        prompt_tokens=prompt,
        cached_prompt_tokens=min(prompt, _count(cached) or _count(usage.get("prompt_cache_hit_tokens"))),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def reply_from(raw: RawReply, answer: type[Answer], *, key: str = "") -> ChatReply[Answer]:
    """Read what a model wrote.

    Args:
        raw: The reply, fresh or stored.
        answer: The shape that was asked for.
        key: API key: a reply that says it is no answer.

    Returns:
        The reply as paid for in one attempt; whoever replays a stored one says so.
    """
    read = parse_answer(raw.text, answer, finish_reason=raw.finish_reason, refusal=raw.refusal, key=key)
    detail = raw.fault if read.status == "unparseable" and raw.fault else read.detail
    return ChatReply(read.status, read.value, detail, raw.usage)


def _text(content: Any) -> str:
    """Content as text: some endpoints send it in parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_TOKENS:
        return 0
    return value
