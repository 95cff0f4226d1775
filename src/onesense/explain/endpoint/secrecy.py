"""Keep an API key out of everything that is written: texts, log records, tracebacks in them."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

KEY_REMOVED = "[key removed]"
"""What stands where a key stood. A reply that holds it is never taken for an answer."""

SHORTEST_SECRET = 8
"""Characters. Local servers take anything for a key ("x", "ollama"): so short a word is no secret in a text."""

_LOGGERS = ("openai", "httpx2", "httpx", "httpcore2", "httpcore")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


def holds_key(text: str, key: str) -> bool:
    """Whether the key stands in the text, as it is or as the escapes of a JSON string."""
    if len(key) < SHORTEST_SECRET:
        return False
    return key in text or ("\\" in text and key in _unescaped(text))


def scrub(text: str, key: str) -> str:
    """The text with ``KEY_REMOVED`` in place of the key; all of the text where it is hidden in escapes."""
    if not holds_key(text, key):
        return text
    clean = text.replace(key, KEY_REMOVED)
    return KEY_REMOVED if holds_key(clean, key) else clean


class KeyFilter(logging.Filter):
    """Takes the key out of log records, also out of their arguments and tracebacks.

    Args:
        key: What must not be logged.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, clean."""
        message = record.getMessage()
        if holds_key(message, self._key):
            record.msg, record.args = scrub(message, self._key), None
        if record.exc_info and record.exc_info[1] is not None:
            text = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
            if holds_key(text, self._key):
                record.exc_text, record.exc_info = scrub(text, self._key), None
        return True


@contextmanager
def key_kept_from_logs(key: str) -> Iterator[None]:
    """Inside the block the loggers of the HTTP client cannot print the key, at any level."""
    if len(key) < SHORTEST_SECRET:
        yield
        return
    guard = KeyFilter(key)
    # a logger's filter is not asked about the records of its children: each needs its own
    loggers = [logging.getLogger(name) for name in _logger_names()]
    for logger in loggers:
        logger.addFilter(guard)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(guard)


def _logger_names() -> list[str]:
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LOGGERS]
    return sorted({*known, *_LOGGERS})


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text).replace("\\/", "/")
