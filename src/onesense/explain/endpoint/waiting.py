"""How long to wait before the same question is put again."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

FIRST_BACKOFF = 1.0
MOST_BACKOFF = 60.0
"""Seconds: bounds of the exponential backoff."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])", re.IGNORECASE)
_ISO_DURATION = re.compile(
    r"P(?:(\d+(?:\.\d+)?)W)?(?:(\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(\d+(?:\.\d+)?)H)?(?:(\d+(?:\.\d+)?)M)?(?:(\d+(?:\.\d+)?)S)?)?",
    re.IGNORECASE,
)
_ISO_SECONDS = (604_800.0, 86_400.0, 3_600.0, 60.0, 1.0)
_LONGEST_HEADER = 100


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Pace:
    """Time and chance, so that tests need neither.

    Attributes:
        sleep: Waits that many seconds.
        now: The time, with its zone.
        random: Draws the jitter.
    """

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], datetime] = _now
    random: Random = field(default_factory=Random)


def backoff(attempt: int, random: Random) -> float:
    """Seconds of exponential backoff with full jitter.

    Evenly between 0 and the bound, which doubles with each attempt: M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015.

    Args:
        attempt: Attempts made so far, from 1.
        random: Draws the jitter.
    """
    return random.uniform(0.0, min(MOST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(attempt - 1, 30)))


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that an endpoint asks to wait.

    Read are ``retry-after-ms``, ``retry-after`` (seconds, an HTTP or ISO 8601 date, an ISO 8601 duration, or
    one such as ``1m30s``), and the ``x-ratelimit-reset-…`` of what is used up.

    Args:
        headers: Of the reply, by lower-case name.
        now: The time, with its zone.

    Returns:
        Seconds, infinity among them; 0 for a date that is past; None where nothing readable is said.
    """
    milliseconds = _plain(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1_000
    stated = _seconds(headers.get("retry-after", ""), now)
    if stated is not None:
        return stated
    resets = []
    for what in ("requests", "tokens"):
        used_up = headers.get(f"x-ratelimit-remaining-{what}", "0").strip() == "0"
        reset = _seconds(headers.get(f"x-ratelimit-reset-{what}", ""), now)
        if used_up and reset is not None:
            resets.append(reset)
    return max(resets, default=None)


def _seconds(text: str, now: datetime) -> float | None:
    text = text.strip()
    if not text or len(text) > _LONGEST_HEADER:
        return None
    for read in (_plain, _duration, _iso_duration):
        seconds = read(text)
        if seconds is not None:
            return seconds
    date = _date(text)
    return None if date is None else max(0.0, (date - now).total_seconds())


def _plain(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) or value < 0 else value


def _duration(text: str) -> float | None:
    if _DURATION.fullmatch(text) is None:
        return None
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(text))


def _iso_duration(text: str) -> float | None:
    match = _ISO_DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    numbers = zip(match.groups(), _ISO_SECONDS, strict=True)
    return sum(float(number) * seconds for number, seconds in numbers if number)


def _date(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            date = read(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    return None
