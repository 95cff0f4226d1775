"""Paid replies, kept as they came, so that nothing is paid for twice.

A SQLite file that many processes may use at once. A reply is in the file before the question is answered: a
process killed right after has it. Keys of the API are not in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from onesense.config import cache_directory
from onesense.errors import IncompatibleError
from onesense.explain.endpoint.chat import Answer, ChatRequest, Usage
from onesense.explain.endpoint.completion import RawReply
from onesense.explain.endpoint.dialect import schema_text
from onesense.explain.endpoint.settings import EndpointSettings
from onesense.store.disk_errors import disk_errors
from onesense.store.sqlite_errors import primary_code, sqlite_errors

logger = logging.getLogger(__name__)

FILE_NAME = "replies.sqlite"

_VERSION = 1
_BUSY_SECONDS = 10.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_COLUMNS = "text, finish_reason, refusal, fault, prompt_tokens, cached_prompt_tokens, completion_tokens"
_TABLE = """
CREATE TABLE IF NOT EXISTS reply (
    question BLOB PRIMARY KEY,
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    refusal TEXT NOT NULL,
    fault TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    model TEXT NOT NULL,
    kept_at REAL NOT NULL
) WITHOUT ROWID
"""


def question_key(request: ChatRequest[Answer], settings: EndpointSettings) -> bytes:
    """SHA-256 of all that decides an answer: endpoint, model, texts, shape, parameters. Not of the key.

    Returns:
        32 bytes.
    """
    parts = urlsplit(settings.base_url)
    asked = [
        _VERSION,
        f"{(parts.hostname or '').lower()}:{parts.port or parts.scheme}{parts.path.rstrip('/')}",
        settings.model,
        request.system,
        request.user,
        schema_text(request.answer),
        request.max_tokens if settings.max_tokens is None else settings.max_tokens,
        request.temperature if settings.temperature is None else settings.temperature,
        settings.seed,
        settings.structured,
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()


class ReplyCache:
    """The file of paid replies.

    A damaged file is moved aside with a warning; a new one takes its place.

    Args:
        path: The file; None for ``replies.sqlite`` in the cache folder.

    Raises:
        IncompatibleError: A newer onesense wrote the file.
        StorageError: It cannot be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache_directory() / FILE_NAME if path is None else path
        self._connection = self._opened()

    def get(self, question: bytes) -> RawReply | None:
        """The reply that was paid for this question, or None.

        Args:
            question: From :func:`question_key`.

        Raises:
            StorageError: The file cannot be read.
        """
        query = f"SELECT {_COLUMNS} FROM reply WHERE question = ?"
        with self._mended():
            row = self._connection.execute(query, (question,)).fetchone()
            if row is None:
                return None
            text, finish_reason, refusal, fault, *tokens = row
            return RawReply(text, finish_reason, refusal, fault, Usage(*tokens))
        return None

    def put(self, question: bytes, raw: RawReply, *, model: str) -> None:
        """Keep a reply; it is in the file when this returns. The one that is there already stays.

        Args:
            question: From :func:`question_key`.
            raw: Without the key of the API (:meth:`RawReply.without_key`).
            model: Name of the model, for people who look into the file.

        Raises:
            StorageError: The disk is full, or the file cannot be written.
            LockedError: Another process has kept it locked for long.
        """
        usage = raw.usage
        tokens = (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens)
        row = (question, raw.text, raw.finish_reason, raw.refusal, raw.fault, *tokens, model, time.time())
        insert = f"INSERT OR IGNORE INTO reply VALUES ({', '.join('?' * len(row))})"
        for _ in range(2):  # again after a damaged file was replaced
            with self._mended():
                self._connection.execute(insert, row)
                return

    def __len__(self) -> int:
        with sqlite_errors(self.path):
            return int(self._connection.execute("SELECT count(*) FROM reply").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _opened(self) -> sqlite3.Connection:
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite_errors(self.path):
            try:
                return self._prepared()
            except sqlite3.DatabaseError as error:
                if primary_code(error) not in _DAMAGED:
                    raise
            self._move_aside()
            return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version > _VERSION:
                raise IncompatibleError(
                    f"{self.path} was written by a newer onesense.",
                    hint="Update onesense, or name another file.",
                )
            connection.execute("PRAGMA journal_mode = WAL")
            # a killed process loses nothing; a power cut may lose the last replies, never the file
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
            connection.execute(f"SELECT {_COLUMNS} FROM reply LIMIT 1").fetchone()
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """Replace a file that turns out to be damaged; other errors are told to the user."""
        with sqlite_errors(self.path):
            try:
                yield
            except sqlite3.DatabaseError as error:
                if primary_code(error) not in _DAMAGED:
                    raise
                self._connection.close()
                self._move_aside()
                self._connection = self._prepared()

    def _move_aside(self) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        logger.warning("%s is damaged; it was moved to %s and a new one begun.", self.path, aside.name)
        with disk_errors(self.path):
            os.replace(self.path, aside)
            for ending in ("-wal", "-shm"):  # they belong to the damaged file and would damage the new one
                with suppress(FileNotFoundError):
                    os.replace(f"{self.path}{ending}", f"{aside}{ending}")
