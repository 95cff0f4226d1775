"""What an endpoint refuses is left out, one thing after the other, and that comes to an end."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from onesense.explain.endpoint.chat import ChatRequest
from onesense.explain.endpoint.dialect import Dialect, completion_body
from onesense.explain.endpoint.settings import EndpointSettings


class Said(BaseModel):
    explanation: str


REQUEST = ChatRequest("Explain.", "half \ud800 a pair", Said)


@pytest.mark.parametrize(
    ("complaint", "changed"),
    [
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            {"limit": "max_completion_tokens"},
        ),
        (
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported",
            {"structured": "json_object"},
        ),
        ("Unsupported value: 'temperature' does not support 0.0 with this model", {"temperature": False}),
        ("unknown field: seed", {"seed": False}),
        ("System role not supported", {"system": False}),
    ],
)
def test_what_is_refused_is_left_out(complaint: str, changed: dict[str, object]) -> None:
    poorer = Dialect().without(complaint)
    assert poorer is not None
    whole = Dialect()
    given = {
        name: getattr(poorer, name)
        for name in Dialect.__slots__
        if getattr(poorer, name) != getattr(whole, name)
    }
    assert given == changed


@pytest.mark.parametrize(
    "complaint", ["", "max_tokens is too large: 9999999", "no", "the messages are seeded"]
)
def test_other_complaints_change_nothing(complaint: str) -> None:
    assert Dialect().without(complaint) is None


def test_an_endpoint_that_refuses_everything_is_asked_a_few_times_only() -> None:
    dialect, steps = Dialect(), 0
    while (
        poorer := dialect.without("max_completion_tokens response_format temperature seed system role")
    ) is not None:
        dialect, steps = poorer, steps + 1
    assert steps == 6
    assert dialect == Dialect("text", "max_completion_tokens", False, False, False)


def test_body_with_everything() -> None:
    settings = EndpointSettings(model="m", seed=5)
    body = completion_body(REQUEST, settings)
    assert body["max_tokens"] == REQUEST.max_tokens
    assert (body["temperature"], body["seed"]) == (0.0, 5)
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["additionalProperties"] is False
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert '"explanation"' in body["messages"][0]["content"]
    assert body["messages"][1]["content"] == "half � a pair"


def test_body_with_nothing() -> None:
    settings = EndpointSettings(model="m", seed=5, max_tokens=9, temperature=1)
    body = completion_body(REQUEST, settings, Dialect("text", "max_completion_tokens", False, False, False))
    assert set(body) == {"model", "messages", "max_completion_tokens"}
    assert body["max_completion_tokens"] == 9
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert body["messages"][0]["content"].startswith("Explain.")


def test_settings_take_the_place_of_the_question_s_own_parameters() -> None:
    body = completion_body(REQUEST, EndpointSettings(model="m", temperature=1, structured="json_object"))
    assert body["temperature"] == 1
    assert body["response_format"] == {"type": "json_object"}
