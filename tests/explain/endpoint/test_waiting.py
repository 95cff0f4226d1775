"""Retry-After in every form, and backoff with jitter."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.explain.endpoint.waiting import MOST_BACKOFF, backoff, retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

FORMS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": " 2.5 "}, 2.5),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "1e400"}, math.inf),
    ({"retry-after": "86400000"}, 86_400_000.0),
    ({"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}, 30.0),
    ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
    ({"retry-after": "Sunday, 01-Mar-26 12:00:30 GMT"}, 30.0),
    ({"retry-after": "2026-03-01T12:01:00Z"}, 60.0),
    ({"retry-after": "2026-03-01T14:01:00+02:00"}, 60.0),
    ({"retry-after": "2026-03-01T12:01:00"}, 60.0),
    ({"retry-after": "1m30s"}, 90.0),
    ({"retry-after": "20ms"}, 0.02),
    ({"retry-after": "6h0m0s"}, 21_600.0),
    ({"retry-after": "1d"}, 86_400.0),
    ({"retry-after": "PT1M30S"}, 90.0),
    ({"retry-after": "P1DT1S"}, 86_401.0),
    ({"retry-after": "P"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "9" * 1_000}, None),
    ({"retry-after": "Sun, 99 Foo 99999 99:99:99 GMT"}, None),
    ({"retry-after-ms": "1500"}, 1.5),
    ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    ({"retry-after-ms": "junk", "retry-after": "9"}, 9.0),
    ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
    (
        {
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-reset-tokens": "6m0s",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-remaining-tokens": "900",
        },
        1.0,
    ),
    ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "9"}, None),
    ({"x-ratelimit-reset-requests": "soon"}, None),
    ({"retry-after": "3", "x-ratelimit-reset-requests": "60s"}, 3.0),
]


@pytest.mark.parametrize(("headers", "expected"), FORMS)
def test_every_form(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers, NOW) == (None if expected is None else pytest.approx(expected))


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_junk_is_none_or_seconds(text: str) -> None:
    seconds = retry_after({"retry-after": text, "retry-after-ms": text}, NOW)
    assert seconds is None or seconds >= 0


def test_backoff_is_full_jitter_under_a_doubling_bound() -> None:
    random = Random(0)
    for attempt in range(1, 12):
        bound = min(MOST_BACKOFF, 2.0 ** (attempt - 1))
        draws = [backoff(attempt, random) for _ in range(400)]
        assert 0 <= min(draws) < 0.1 * bound
        assert 0.9 * bound < max(draws) <= bound
    assert backoff(10_000, random) <= MOST_BACKOFF


def test_backoff_repeats_with_the_seed() -> None:
    assert [backoff(3, Random(1)) for _ in range(3)] == [backoff(3, Random(1))] * 3
