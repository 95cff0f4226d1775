"""What went wrong with one attempt, and what follows: ask again, give this question up, or stop."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from onesense.explain.endpoint.answers import clean_text
from onesense.explain.endpoint.waiting import retry_after
from onesense.store.catalog import ExplanationStatus

_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_KEY_REFUSED = frozenset({401, 403, 407})
_PARAMETERS_REFUSED = frozenset({400, 415, 422, 500, 501})
# "billing" alone is no sign: the usual message about requests per minute links to the page of that name
_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|plan and billing|billing[_ ](?:hard[_ ]limit|not[_ ]active)|"
    r"insufficient (?:credits|balance|funds)|credit balance|out of credits|payment required"
)
# Gemini calls requests per minute a quota too, and then says when to come back
_COME_BACK = re.compile(r"retry(?: in |delay\W{1,6})(\d+(?:\.\d+)?)s")
_TOO_LONG = re.compile(
    r"context[_ ](?:length|window|size)|maximum context|too many tokens|prompt is too long|"
    r"string_above_max_length|exceeds? the (?:available|model)"
)
_FILTERED = re.compile(
    r"content_filter|content management policy|content_policy|responsibleai|moderation|flagged|safety system"
)
_NO_MODEL = re.compile(
    r"model_not_found|not a valid model|model [^\n]{0,200}(?:does not exist|not found)|unknown model"
)


@dataclass(frozen=True, slots=True)
class Retry:
    """Another attempt may do better.

    Attributes:
        reason: What happened.
        after: Seconds that the endpoint asks to wait; None where it says nothing.
        lacks: What was not there: a server, or a completion in what it sent. Nothing else is known to work
            until it was there once.
    """

    reason: str
    after: float | None = None
    lacks: Literal["", "connection", "completion"] = ""
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """This question gets no answer, whatever is done.

    Attributes:
        status: Of the reply.
        detail: In words, for people.
        complaint: Message of the endpoint, where a parameter could be what it does not like.
        of_question: Whether the question itself is the cause, so that others may fare better.
    """

    status: ExplanationStatus
    detail: str
    complaint: str = ""
    of_question: bool = False


@dataclass(frozen=True, slots=True)
class Fatal:
    """No question gets an answer until somebody mends something.

    Attributes:
        message: What happened.
        hint: What would help.
        unknown_model: Whether the list of models would help.
    """

    message: str
    hint: str
    unknown_model: bool = False


Fault = Retry | Failed | Fatal


def fault_of_response(code: int, headers: Mapping[str, str], body: str, *, now: datetime) -> Fault:
    """What a reply other than a completion means.

    Args:
        code: HTTP status; that in the body where an endpoint reports errors with 200.
        headers: By lower-case name.
        body: Text of the reply.
        now: The time, with its zone.
    """
    message, complaint = _error_message(body)
    said = complaint.lower()
    shown = f"HTTP {code}{f': {message}' if message else ''}"
    if 300 <= code < 400:
        return _redirected(code, headers)
    come_back = _COME_BACK.search(body[:20_000].lower()) if code == 429 else None
    if come_back is not None:
        return Retry(shown, max(float(come_back[1]), retry_after(headers, now) or 0.0))
    if code == 402 or (code == 429 and _QUOTA.search(said)):
        return Fatal(f"the quota is used up ({shown})", "Look at the plan and billing of the account.")
    if code in _KEY_REFUSED:
        if _FILTERED.search(said):
            return Failed("refused", f"the endpoint's filter refused ({shown})", of_question=True)
        hint = "Check OPENAI_API_KEY, and that the key may use this model."
        return Fatal(f"the key was refused ({shown})", hint)
    if code == 404 or (code == 400 and _NO_MODEL.search(said)):
        return Fatal(f"it does not know the model or the path ({shown})", "", unknown_model=True)
    if code in _TRANSIENT:
        refused = complaint if code in _PARAMETERS_REFUSED else ""
        return Retry(shown, retry_after(headers, now), complaint=refused)
    if code == 413 or _TOO_LONG.search(said):
        return Failed("http_error", f"the question is too long for the model ({shown})", of_question=True)
    if _FILTERED.search(said):
        return Failed("refused", f"the endpoint's filter refused ({shown})", of_question=True)
    if code >= 500 and code not in _PARAMETERS_REFUSED:
        return Retry(shown, retry_after(headers, now))
    return Failed("http_error", shown, complaint=complaint if code in _PARAMETERS_REFUSED else "")


def fault_of_payload(payload: object, headers: Mapping[str, str], body: str, *, now: datetime) -> Fault:
    """What a reply with status 200 means that is no completion."""
    if isinstance(payload, Mapping) and payload.get("error"):
        error = payload["error"]
        code = error.get("code") if isinstance(error, Mapping) else None
        code = int(code) if isinstance(code, int | str) and str(code).isdecimal() else 500
        return fault_of_response(code if 300 <= code < 600 else 500, headers, body, now=now)
    kind = clean_text(headers.get("content-type", "no content type"), 60)
    what = "a web page" if body.lstrip()[:200].lower().startswith(("<!doctype", "<html")) else "no completion"
    return Retry(f"HTTP 200 with {what} ({kind})", lacks="completion")


def fault_of_exception(error: BaseException) -> Retry | None:
    """What a failed exchange means: of the network, of TLS, of time.

    Returns:
        Why to ask again; None where the error is not about the exchange.
    """
    chain = _chain(error)
    names = {type(one).__name__ for one in chain}
    if any(isinstance(one, ssl.SSLError) for one in chain):
        said = next(str(one) for one in chain if isinstance(one, ssl.SSLError))
        return Retry(f"TLS failed: {clean_text(said, 160)}", lacks="connection")
    if names & {"ConnectTimeout", "ConnectError", "PoolTimeout", "ProxyError"}:
        said = clean_text(str(chain[-1]) or type(chain[-1]).__name__, 160)
        return Retry(f"no connection: {said}", lacks="connection")
    if isinstance(error, TimeoutError):
        return Retry("the reply did not end in time")
    if names & {"ReadTimeout", "WriteTimeout", "TimeoutException", "APITimeoutError"}:
        return Retry("no reply in time")
    if names & {"RequestError", "TransportError", "APIConnectionError", "RemoteProtocolError", "ReadError"}:
        return Retry(f"the connection broke: {clean_text(str(chain[-1]) or type(chain[-1]).__name__, 160)}")
    return None


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain and len(chain) < 20:
        chain.append(one)
        one = one.__cause__ or one.__context__
    return chain


def _redirected(code: int, headers: Mapping[str, str]) -> Fatal:
    try:
        parts = urlsplit(headers.get("location", ""))
        host = f"{parts.scheme}://{parts.hostname}" if parts.hostname else ""
        port = f":{parts.port}" if parts.port else ""
        target = clean_text(f"{host}{port if host else ''}{parts.path}", 200)
    except ValueError:
        target = ""
    return Fatal(
        f"it sends elsewhere (HTTP {code}{f', to {target}' if target else ''})",
        "Redirects are not followed, so that the key goes nowhere else; give the address that it leads to.",
    )


def _error_message(body: str) -> tuple[str, str]:
    """What the endpoint says, for people, and all of it with code and parameter, to be searched."""
    try:
        payload: Any = json.loads(body) if body.lstrip()[:1] in ("{", "[") else None
    except (ValueError, RecursionError):
        payload = None
    if isinstance(payload, list) and payload:
        payload = payload[0]  # Gemini wraps its errors in a list
    if not isinstance(payload, Mapping):
        page = body.lstrip()[:1] == "<"
        return ("" if page else clean_text(body, 200)), ("" if page else body[:2_000])
    error = payload.get("error", payload)
    if not isinstance(error, Mapping):
        return clean_text(str(error), 200), str(error)[:2_000]
    message = error.get("message") or error.get("detail") or error.get("msg") or ""
    parts = [str(error.get(name) or "") for name in ("code", "type", "param", "metadata")]
    said = message if isinstance(message, str) else json.dumps(message)
    return clean_text(said, 200), " ".join([said, *parts])[:4_000]
