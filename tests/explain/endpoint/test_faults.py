"""What each fault means: ask again, give the question up, or stop."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.explain.endpoint.faults import (
    Failed,
    Fatal,
    Retry,
    fault_of_exception,
    fault_of_payload,
    fault_of_response,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
REQUEST = httpx2.Request("POST", "http://h/v1")

PER_MINUTE = (
    "Rate limit reached for gpt-4o-mini in organization org-x on requests per min (RPM): Limit 3, Used 3. "
    "You can increase your rate limit by adding a payment method at https://platform.openai.com/account/billing."
)
GEMINI = (
    '[{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota, '
)
GEMINI += 'please check your plan and billing details. Please retry in 34.5s."}}]'


def error(message: str, **more: Any) -> str:
    return json.dumps({"error": {"message": message, **more}})


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504, 529, 520, 599])
def test_transient_codes_are_asked_again(code: int) -> None:
    fault = fault_of_response(code, {"retry-after": "3"}, "", now=NOW)
    assert isinstance(fault, Retry)
    assert fault.after == 3.0


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (429, error("x", code="insufficient_quota")),
        (429, error("You exceeded your current quota, please check your plan and billing details.")),
        (402, error("Insufficient credits")),
        (401, error("Incorrect API key provided")),
        (403, error("Country not supported")),
        (404, error("The model `gpt-5o` does not exist", code="model_not_found")),
        (404, "404 page not found"),
        (400, error("gpt-9.1 is not a valid model ID")),
        (301, ""),
        (302, ""),
        (307, ""),
        (308, ""),
    ],
)
def test_fatal(code: int, body: str) -> None:
    assert isinstance(fault_of_response(code, {"location": "https://evil.example/v1"}, body, now=NOW), Fatal)


@pytest.mark.parametrize(("body", "after"), [(error(PER_MINUTE), None), (GEMINI, 34.5)])
def test_a_limit_per_minute_is_no_quota(body: str, after: float | None) -> None:
    fault = fault_of_response(429, {}, body, now=NOW)
    assert isinstance(fault, Retry)
    assert fault.after == after


def test_a_redirect_is_named_without_its_secrets() -> None:
    target = "https://user:secret@evil.example:8443/v1/chat?token=secret"
    fault = fault_of_response(307, {"location": target}, "", now=NOW)
    assert isinstance(fault, Fatal)
    assert "https://evil.example:8443/v1/chat" in fault.message
    assert "secret" not in fault.message


@pytest.mark.parametrize(
    ("code", "body", "status", "of_question"),
    [
        (400, error("This model's maximum context length is 8192 tokens"), "http_error", True),
        (400, error("x", code="context_length_exceeded"), "http_error", True),
        (413, "", "http_error", True),
        (400, error("x", code="content_filter"), "refused", True),
        (400, error("triggering Azure OpenAI's content management policy"), "refused", True),
        (403, error("Your input was flagged"), "refused", True),
        (400, error("bad"), "http_error", False),
        (418, "teapot", "http_error", False),
        (422, '{"detail": [{"loc": ["body"], "msg": "no"}]}', "http_error", False),
    ],
)
def test_one_question_fails(code: int, body: str, status: str, of_question: bool) -> None:
    fault = fault_of_response(code, {}, body, now=NOW)
    assert isinstance(fault, Failed)
    assert (fault.status, fault.of_question) == (status, of_question)


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"error": {"code": 502, "message": "upstream"}}, Retry),
        ({"error": {"code": "429", "message": "slow"}}, Retry),
        ({"error": {"code": 401, "message": "no"}}, Fatal),
        ({"error": "broken"}, Retry),
        ({"error": {"code": 200}}, Retry),
        ({}, Retry),
        ([], Retry),
        (None, Retry),
    ],
)
def test_errors_that_come_with_200(payload: Any, kind: type) -> None:
    assert isinstance(fault_of_payload(payload, {}, json.dumps(payload), now=NOW), kind)


def test_a_web_page_is_named() -> None:
    fault = fault_of_payload(None, {"content-type": "text/html"}, "<!DOCTYPE html><p>hi", now=NOW)
    assert isinstance(fault, Retry)
    assert fault.lacks == "completion"
    assert "web page" in fault.reason


def chained(*errors: BaseException) -> BaseException:
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


@pytest.mark.parametrize(
    ("raised", "lacks"),
    [
        (
            chained(
                openai.APIConnectionError(request=REQUEST),
                httpx2.ConnectError("x"),
                ssl.SSLCertVerificationError("certificate verify failed"),
            ),
            "connection",
        ),
        (chained(openai.APIConnectionError(request=REQUEST), httpx2.ConnectError("refused")), "connection"),
        (chained(openai.APITimeoutError(REQUEST), httpx2.ConnectTimeout("x")), "connection"),
        (chained(openai.APITimeoutError(REQUEST), httpx2.ReadTimeout("x")), ""),
        (chained(openai.APIConnectionError(request=REQUEST), httpx2.ReadError("reset")), ""),
        (chained(openai.APIConnectionError(request=REQUEST), httpx2.RemoteProtocolError("gone")), ""),
        (TimeoutError(), ""),
    ],
)
def test_faults_of_the_network(raised: BaseException, lacks: str) -> None:
    fault = fault_of_exception(raised)
    assert fault is not None
    assert fault.lacks == lacks


def test_our_own_mistakes_are_no_faults_of_the_network() -> None:
    assert fault_of_exception(TypeError("x")) is None


@given(st.integers(300, 599), st.text(max_size=200))
def test_any_body_is_borne(code: int, body: str) -> None:
    fault = fault_of_response(code, {"location": body, "retry-after": body}, body, now=NOW)
    assert isinstance(fault, Retry | Failed | Fatal)


@pytest.mark.parametrize(
    "body", ["[" * 100_000, '{"error": null}', '{"error": [1]}', '{"message": {"a": 1}}', "[]"]
)
def test_odd_bodies_are_borne(body: str) -> None:
    assert isinstance(fault_of_response(400, {}, body, now=NOW), Failed)
