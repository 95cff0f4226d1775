"""Find the answer in what a language model wrote, whatever it wrote.

Models put prose around JSON, fence it, quote it in single quotes, think aloud before it. What is found is
checked against the shape that was asked for. What is not found has a status and a reason, never a guess.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Generic

from json_repair import repair_json
from pydantic import ValidationError

from onesense.explain.endpoint.chat import Answer
from onesense.explain.endpoint.secrecy import KEY_REMOVED, holds_key
from onesense.store.catalog import ExplanationStatus

MOST_CHARACTERS = 1_000
"""Of any one text in an answer; longer ones are cut there."""

_MOST_DEPTH = 64
_MOST_READ = 200_000
_MOST_REPAIRED = 20_000
_MOST_OBJECTS = 64
_MOST_REPAIRS = 4

_TRUNCATED = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
_REFUSED = frozenset({"content_filter", "safety", "refusal", "prohibited_content", "recitation", "blocklist"})

_REASONING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_REASONING_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_TERMINAL_CODES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_BLANKS = re.compile("[\t\n\r\v\f\x85\u2028\u2029]+")
# C0, C1, and the marks that turn the direction of the text after them
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Reading(Generic[Answer]):
    """What a text says.

    Attributes:
        status: ``ok``, or why there is no value.
        value: The answer; None unless the status is ``ok``.
        detail: In words why there is no value.
    """

    status: ExplanationStatus
    value: Answer | None = None
    detail: str = ""


class _AmbiguousError(ValueError):
    """One name stands twice in an object, with different values."""


def parse_answer(
    text: str | None,
    answer: type[Answer],
    *,
    finish_reason: str | None = "stop",
    refusal: str | None = None,
    key: str = "",
) -> Reading[Answer]:
    """Read an answer. Never raises, whatever the text is.

    Where several objects of the right shape stand in the text, the last one counts: models think before they
    answer. Unknown names are ignored. Texts are cleaned of terminal codes and cut.

    Args:
        text: The content of the reply, without a separate field for reasoning.
        answer: The shape that was asked for.
        finish_reason: Why the endpoint says that the model stopped.
        refusal: What the endpoint gives in its field for refusals.
        key: API key: a reply that says it is no answer.

    Returns:
        The value, or why there is none: ``refused``, ``truncated`` (also where the cut text could be mended)
        or ``unparseable``.
    """
    reason = (finish_reason or "").lower()
    if refusal or reason in _REFUSED:
        said = clean_text(refusal or "", 200)
        return Reading("refused", detail=f"the model refused{f': {said}' if said else ''}")
    if reason in _TRUNCATED:
        return Reading("truncated", detail="the answer did not end within max_tokens")
    if not text or not text.strip():
        return Reading("unparseable", detail="the reply is empty")
    if KEY_REMOVED in text or holds_key(text, key):
        return Reading("unparseable", detail="the reply repeats the API key")
    if len(text) > _MOST_READ:
        return Reading("unparseable", detail=f"the reply has {len(text):,} characters")
    return _found(text, answer)


def clean_text(text: str, most: int = MOST_CHARACTERS) -> str:
    """Text as it may be shown and stored: one line, no terminal codes, no halves of characters, not too long.

    Args:
        text: Anything.
        most: Characters that are kept.
    """
    shown = _CONTROLS.sub("", _BLANKS.sub(" ", _TERMINAL_CODES.sub("", text)))
    shown = well_formed(shown).strip()
    return shown if len(shown) <= most else shown[: most - 1].rstrip() + "…"


def well_formed(text: str) -> str:
    """The text with a replacement mark for each lone half of a surrogate pair, so that UTF-8 can hold it."""
    return _SURROGATES.sub("\ufffd", text)


def _found(text: str, answer: type[Answer]) -> Reading[Answer]:
    """The answer in the text as it is, else in the text without reasoning."""
    whole = _load(text.strip())
    if isinstance(whole, dict):
        return _validated([whole], answer)
    said = _without_reasoning(text)
    if not said.strip():
        return Reading("unparseable", detail="the reply is reasoning only")
    if _depth(said) > _MOST_DEPTH:
        return Reading("unparseable", detail=f"the reply is nested more than {_MOST_DEPTH} deep")
    try:
        objects = _strict_objects(said)
    except _AmbiguousError as error:
        return Reading("unparseable", detail=str(error))
    strict = _validated(objects, answer)
    if strict.status == "ok":
        return strict
    repaired = _validated(_repaired_objects(said), answer)
    return repaired if repaired.status == "ok" or not objects else strict


def _without_reasoning(text: str) -> str:
    said = _REASONING.sub(" ", text)
    return _REASONING_END.sub("", said)  # templates that open the reasoning themselves leave only its end


def _validated(objects: list[dict[str, Any]], answer: type[Answer]) -> Reading[Answer]:
    fault = "there is no JSON object in the reply"
    known = {name for field, info in answer.model_fields.items() for name in (field, info.alias) if name}
    for found in reversed(objects):
        given = {name: _clean(value) for name, value in found.items() if name in known}
        try:
            value = answer.model_validate(given)
        except ValidationError as error:
            if fault.startswith("there is"):
                fault = _describe(error)
            continue
        except (RecursionError, OverflowError):
            fault = "the reply cannot be read"
            continue
        if _safely_coerced(given, value.model_dump(by_alias=True)):
            return Reading("ok", value)
        fault = "true or false stands where a number should"
    return Reading("unparseable", detail=fault)


def _describe(error: ValidationError) -> str:
    """Faults without the values: those are hostile text."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    parts = []
    for fault in faults[:3]:
        place = clean_text(".".join(str(step) for step in fault["loc"]), 60)
        parts.append(
            f"`{place}`: {clean_text(fault['msg'], 120)}" if place else clean_text(fault["msg"], 120)
        )
    return "; ".join(parts)


def _safely_coerced(given: Any, made: Any) -> bool:
    """Whether no truth value was taken for a number: "4 of 10" and "yes" are different answers."""
    if isinstance(given, bool):
        return isinstance(made, bool) or not isinstance(made, int | float)
    if isinstance(given, dict) and isinstance(made, dict):
        return all(_safely_coerced(value, made[name]) for name, value in given.items() if name in made)
    if isinstance(given, list) and isinstance(made, list | tuple):
        return all(_safely_coerced(one, other) for one, other in zip(given, made, strict=False))
    return True


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(name): _clean(item) for name, item in value.items()}
    return value


def _strict_objects(text: str) -> list[dict[str, Any]]:
    """Every outermost JSON object in the text, in order.

    Raises:
        _AmbiguousError: One of them gives two values for a name.
    """
    decoder = _decoder()
    objects: list[dict[str, Any]] = []
    start = text.find("{")
    tried = 0
    while start >= 0 and tried < _MOST_OBJECTS:
        tried += 1
        try:
            found, end = decoder.raw_decode(text, start)
        except _AmbiguousError:
            raise
        except (ValueError, RecursionError):
            end = start + 1
        else:
            objects.append(found)
        start = text.find("{", end)
    return objects


def _repaired_objects(text: str) -> list[dict[str, Any]]:
    """What can be read into the parts between a `{` and the last `}` where no part is strict JSON."""
    end = text.rfind("}") + 1
    objects: list[dict[str, Any]] = []
    start = text.find("{")
    tried = 0
    while 0 <= start < end and tried < _MOST_REPAIRS:
        tried += 1
        if end - start <= _MOST_REPAIRED:
            found = _repair(text[start:end])
            if isinstance(found, dict):
                objects.append(found)
        start = text.find("{", start + 1)
    return objects


def _repair(part: str) -> Any:
    try:
        repaired = repair_json(part, skip_json_loads=True)
    except Exception:  # a parser of guesses, on hostile text: whatever it trips over, there is no answer here
        return None
    return _load(repaired) if isinstance(repaired, str) else None


def _load(text: str) -> Any:
    """The value of a JSON text, or None where it is none or is ambiguous."""
    if _depth(text) > _MOST_DEPTH:
        return None
    try:
        return json.loads(text, **_HOOKS)
    except (ValueError, RecursionError):
        return None


def _depth(text: str) -> int:
    """Most brackets open at once, those in strings counted too: an upper bound that costs one pass."""
    depth = most = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        if bracket in "[{":
            depth += 1
            most = max(most, depth)
        else:
            depth = max(0, depth - 1)
    return most


def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(**_HOOKS)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made and made[name] != value:
            raise _AmbiguousError(f"`{clean_text(name, 60)}` stands twice, with different values")
        made[name] = value
    return made


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def _no_number(name: str) -> None:
    """NaN and the infinities are no values: they count as null."""
    del name


_HOOKS: dict[str, Any] = {
    "object_pairs_hook": _once,
    "parse_float": _finite,
    "parse_constant": _no_number,
}
