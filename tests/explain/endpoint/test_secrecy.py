"""The key is taken out of texts and log records."""

from __future__ import annotations

import io
import logging

import pytest

from onesense.explain.endpoint.secrecy import KEY_REMOVED, key_kept_from_logs, scrub

KEY = "sk-canary-12345"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nothing", "nothing"),
        (f"a {KEY} b {KEY}", f"a {KEY_REMOVED} b {KEY_REMOVED}"),
        (r"a sk\u002dcanary-12345 b", KEY_REMOVED),
        (rf"{KEY} sk\u002dcanary-12345 b", KEY_REMOVED),
    ],
)
def test_scrub(text: str, expected: str) -> None:
    assert scrub(text, KEY) == expected


@pytest.mark.parametrize("key", ["", "x", "ollama"])
def test_a_word_that_is_no_secret_is_left(key: str) -> None:
    assert scrub("ollama x", key) == "ollama x"


@pytest.mark.parametrize("name", ["openai._base_client", "httpx2", "httpcore2.http11", "httpcore2"])
def test_loggers_of_the_client_cannot_print_the_key(name: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger(name)
    level, filters = logger.level, list(logger.filters)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        with key_kept_from_logs(KEY):
            logger.debug("headers: %s", {"Authorization": f"Bearer {KEY}"})
            try:
                raise ValueError(f"Illegal header value b'Bearer {KEY}'")
            except ValueError:
                logger.debug("failed", exc_info=True)
        assert logger.filters == filters
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert KEY not in stream.getvalue()
    assert stream.getvalue().count(KEY_REMOVED) == 2
