"""Files of OpenAI's Batch API: one question in a line, one result in a line, in any order."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from onesense.errors import ConfigurationError
from onesense.explain.endpoint.chat import ChatRequest
from onesense.store.atomic import write_bytes
from onesense.store.disk_errors import storage_error

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
"""Limits of one file (OpenAI's guide to the Batch API)."""

NOT_ANSWERED = "the batch has no answer to this question"

_URL = "/v1/chat/completions"
_MOST_DETAIL = 300
_ANSWERED = range(200, 300)


@dataclass(frozen=True, slots=True)
class BatchFile:
    """One file of questions.

    Attributes:
        name: File name; it holds the beginning of the hash, so that other questions never take its place.
        sha256: Of its bytes.
        requests: How many questions are in it.
    """

    name: str
    sha256: str
    requests: int


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch has to say about one question.

    Attributes:
        custom_id: Name of the question.
        completion: The chat completion, as the endpoint sent it; None where there is none.
        detail: Why there is none; empty where there is one.
    """

    custom_id: str
    completion: Mapping[str, Any] | None
    detail: str = ""


@dataclass
class ResultFaults:
    """Lines of result files that were left out.

    Attributes:
        unreadable: Not JSON, or cut off.
        unknown: About a question that was not asked.
        repeated: About a question that has its result already.
    """

    unreadable: int = 0
    unknown: int = 0
    repeated: int = 0

    def __str__(self) -> str:
        counts = {
            "cut or damaged": self.unreadable,
            "about questions that were not asked": self.unknown,
            "about a question that has a result already": self.repeated,
        }
        told = [f"{count:,} {what}" for what, count in counts.items() if count]
        return f"left out lines of the results: {', '.join(told)}" if told else ""


def write_batch_files(
    questions: Iterable[tuple[str, ChatRequest[Any]]],
    folder: Path,
    body: Callable[[ChatRequest[Any]], Mapping[str, Any]],
    *,
    most_requests: int = MOST_REQUESTS,
    most_bytes: int = MOST_BYTES,
) -> list[BatchFile]:
    """Write questions into as few files as the interface takes. Equal questions give equal files.

    Args:
        questions: Their names, each one once, and the questions; read once, one at a time.
        folder: Where the files go.
        body: Makes the body of a chat completion of a question.
        most_requests: Most questions of a file.
        most_bytes: Most bytes of a file.

    Raises:
        ConfigurationError: There is no question, two have the same name, or one is larger than a file may be.
        StorageError: The files cannot be written.
    """
    lines = _lines(questions, body, most_bytes)
    files: list[BatchFile] = []
    pending = next(lines, None)
    if pending is None:
        raise ConfigurationError("There is nothing to ask in a batch.")
    while pending is not None:
        part = _Part(pending, lines, most_requests, most_bytes)
        unnamed = folder / "requests.jsonl"
        sha256 = write_bytes(unnamed, part)
        named = folder / f"requests-{len(files):04d}-{sha256[:16]}.jsonl"
        try:
            os.replace(unnamed, named)
        except OSError as error:
            raise storage_error(error, named) from error
        files.append(BatchFile(named.name, sha256, part.requests))
        pending = part.left_over
    return files


class _Part:
    """Lines until a file is full; the one that did not fit is left over."""

    def __init__(self, first: bytes, lines: Iterator[bytes], most_requests: int, most_bytes: int) -> None:
        self.requests = 0
        self.left_over: bytes | None = None
        self._lines = chain([first], lines)
        self._most_requests, self._most_bytes = most_requests, most_bytes

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for line in self._lines:
            if self.requests == self._most_requests or size + len(line) > self._most_bytes:
                self.left_over = line
                return
            self.requests += 1
            size += len(line)
            yield line


def _lines(
    questions: Iterable[tuple[str, ChatRequest[Any]]],
    body: Callable[[ChatRequest[Any]], Mapping[str, Any]],
    most_bytes: int,
) -> Iterator[bytes]:
    seen: set[str] = set()
    for custom_id, request in questions:
        if custom_id in seen:
            raise ConfigurationError(f"Two questions of a batch are called {custom_id!r}.")
        seen.add(custom_id)
        line = {"custom_id": custom_id, "method": "POST", "url": _URL, "body": body(request)}
        # escaped, so that no character of a corpus (U+2028, half a surrogate pair) ends a line or is refused
        encoded = json.dumps(line, sort_keys=True, allow_nan=False).encode("ascii") + b"\n"
        if len(encoded) > most_bytes:
            raise ConfigurationError(
                f"The question {custom_id!r} has {len(encoded):,} bytes; a batch takes {most_bytes:,}.",
                hint="Use fewer or shorter contexts.",
            )
        yield encoded


def custom_ids(path: Path) -> Iterator[str]:
    """Names of the questions of a file that :func:`write_batch_files` wrote.

    Raises:
        StorageError: The file cannot be read.
    """
    for line in _read_lines(path):
        yield json.loads(line)["custom_id"]


def read_results(
    asked: Iterable[str],
    paths: Iterable[Path],
    faults: ResultFaults,
    clean: Callable[[str], str],
    missing: str = NOT_ANSWERED,
) -> Iterator[BatchResult]:
    """Read result files. Every question that was asked has exactly one result, if only that there is none.

    Args:
        asked: Names of the questions.
        paths: Result files, those of answers before those of errors: the first result of a question counts.
        faults: Counts the lines that are left out.
        clean: Takes out of a text of the endpoint what must not be shown or stored, such as the key.
        missing: Why a question has no result.

    Raises:
        StorageError: A file cannot be read.
    """
    waiting = dict.fromkeys(asked, True)
    for path in paths:
        for line in _read_lines(path):
            result = _result(line, clean)
            if result is None:
                faults.unreadable += bool(line.strip())
            elif result.custom_id not in waiting:
                faults.unknown += 1
            elif not waiting[result.custom_id]:
                faults.repeated += 1
            else:
                waiting[result.custom_id] = False
                yield result
    for custom_id, unanswered in waiting.items():
        if unanswered:
            yield BatchResult(custom_id, None, missing)


def _read_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise storage_error(error, path, action="read") from error


def _result(line: bytes, clean: Callable[[str], str]) -> BatchResult | None:
    try:
        result = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(result, Mapping) or not isinstance(result.get("custom_id"), str):
        return None
    custom_id = result["custom_id"]
    response = result.get("response")
    response = response if isinstance(response, Mapping) else {}
    body, status = response.get("body"), response.get("status_code")
    if isinstance(body, Mapping) and isinstance(status, int) and status in _ANSWERED:
        return BatchResult(custom_id, body)
    told = _told(result.get("error")) or _told(body.get("error") if isinstance(body, Mapping) else None)
    where = f"HTTP {status}" if isinstance(status, int) else ""
    detail = ": ".join(text for text in (where, told) if text)
    return BatchResult(custom_id, None, clean(detail)[:_MOST_DETAIL] or NOT_ANSWERED)


def _told(error: object) -> str:
    """What an error object says, on one line and without control characters."""
    if not isinstance(error, Mapping):
        return ""
    text = error.get("message") or error.get("code") or ""
    return plain_line(text) if isinstance(text, str) else ""


def plain_line(text: str) -> str:
    """A text of an endpoint on one line, without characters that move a terminal's cursor."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(shown.split())
