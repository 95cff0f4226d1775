"""Settings of an endpoint: what would leak the key or go nowhere is refused, without repeating it."""

from __future__ import annotations

from typing import Any

import pytest

from onesense.errors import ConfigurationError
from onesense.explain.endpoint.settings import EndpointSettings

KEY = "sk-canary-12345"

REFUSED: dict[str, dict[str, Any]] = {
    "password in the address": {"base_url": f"https://user:{KEY}@host/v1"},
    "user in the address": {"base_url": f"https://{KEY}@host/v1"},
    "key in the query": {"base_url": f"https://host/v1?key={KEY}"},
    "fragment": {"base_url": "https://host/v1#x"},
    "another scheme": {"base_url": "ftp://host/v1"},
    "a file": {"base_url": "file:///etc/passwd"},
    "no scheme": {"base_url": "host/v1"},
    "no host": {"base_url": "https:///v1"},
    "no port": {"base_url": "https://host:99999999/v1"},
    "blank": {"base_url": "https://host /v1"},
    "line break": {"base_url": "https://host/v1\r\nX: y"},
    "plain http with a key": {"base_url": "http://host.example/v1", "api_key": KEY},
    "looks local": {"base_url": "http://localhost.example/v1", "api_key": KEY},
    "line break in the key": {"api_key": f"{KEY}\n"},
    "blank in the key": {"api_key": f"{KEY} x"},
    "letter beyond ASCII in the key": {"api_key": f"{KEY}é"},
    "key of another type": {"api_key": [KEY]},
    "empty key": {"api_key": ""},
    "unknown name": {"key": KEY},
    "no concurrency": {"concurrency": 0},
    "no model": {"model": ""},
    "NaN": {"most_wait": float("nan")},
    "temperature": {"temperature": 3},
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_refused_in_words_without_the_key(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EndpointSettings(**{"model": "m", **given})
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": "http://localhost:11434/v1", "api_key": KEY},
        {"base_url": "http://127.0.0.1:8000/v1", "api_key": KEY},
        {"base_url": "http://[::1]:8000/v1", "api_key": KEY},
        {"base_url": "http://host.example/v1"},
        {"base_url": "http://host.example/v1", "api_key": KEY, "allow_insecure": True},
        {"base_url": "https://host.example/v1", "api_key": KEY},
    ],
)
def test_taken(given: dict[str, Any]) -> None:
    settings = EndpointSettings(model="m", **given)
    assert KEY not in repr(settings)
    assert KEY not in str(settings.model_dump())
    assert settings.key == (KEY if "api_key" in given else "")


def test_which_endpoints_are_local_and_which_is_openai() -> None:
    assert EndpointSettings(model="m").is_openai
    assert not EndpointSettings(model="m", base_url="https://api.openai.com.evil.example/v1").is_openai
    assert EndpointSettings(model="m", base_url="http://127.9.9.9/v1").is_local
    assert not EndpointSettings(model="m").is_local
