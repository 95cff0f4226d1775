"""Paid replies are kept at once, for every process, and a damaged file costs nothing but its replies."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from onesense.errors import IncompatibleError, StorageError
from onesense.explain.endpoint.cache import FILE_NAME, ReplyCache, question_key
from onesense.explain.endpoint.chat import ChatRequest, Usage
from onesense.explain.endpoint.completion import RawReply
from onesense.explain.endpoint.settings import EndpointSettings


class Said(BaseModel):
    explanation: str


class Other(BaseModel):
    words: str


RAW = RawReply('{"explanation": "nurses \u202e\x00"}', "stop", "", "", Usage(10, 4, 3))
QUESTION = bytes(32)
REQUEST = ChatRequest("system", "user", Said)
SETTINGS = EndpointSettings(model="m")


def test_a_reply_comes_back_as_it_was(tmp_path: Path) -> None:
    with ReplyCache(tmp_path / "deep" / "c.sqlite") as cache:
        assert cache.get(QUESTION) is None
        cache.put(QUESTION, RAW, model="m")
        cache.put(QUESTION, replace(RAW, text="later"), model="m")
        assert cache.get(QUESTION) == RAW
    with ReplyCache(tmp_path / "deep" / "c.sqlite") as cache:
        assert cache.get(QUESTION) == RAW
        assert len(cache) == 1


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path))
    with ReplyCache() as cache:
        assert cache.path == tmp_path / FILE_NAME


@pytest.mark.parametrize(
    "changed",
    [
        {"base_url": "http://localhost:1/v1"},
        {"model": "n"},
        {"temperature": 1.0},
        {"max_tokens": 5},
        {"seed": 1},
        {"structured": "text"},
    ],
)
def test_settings_that_decide_the_answer_are_in_the_key(changed: dict[str, Any]) -> None:
    other = EndpointSettings(**{"model": "m", **changed})
    assert question_key(REQUEST, other) != question_key(REQUEST, SETTINGS)


@pytest.mark.parametrize(
    "changed", [{"system": "x"}, {"user": "x"}, {"answer": Other}, {"max_tokens": 5}, {"temperature": 1.0}]
)
def test_what_is_asked_is_in_the_key(changed: dict[str, Any]) -> None:
    assert question_key(replace(REQUEST, **changed), SETTINGS) != question_key(REQUEST, SETTINGS)


def test_what_does_not_decide_the_answer_is_not_in_the_key() -> None:
    same = EndpointSettings(model="m", api_key=SecretStr("another"), concurrency=1, most_attempts=1)
    assert question_key(REQUEST, same) == question_key(REQUEST, SETTINGS)
    slash = EndpointSettings(model="m", base_url="https://API.openai.com/v1/")
    assert question_key(REQUEST, slash) == question_key(REQUEST, SETTINGS)


def test_half_a_surrogate_pair_can_be_asked() -> None:
    assert len(question_key(replace(REQUEST, user="\ud800"), SETTINGS)) == 32


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from onesense.explain.endpoint.cache import ReplyCache, RawReply\n"
        "with ReplyCache(Path(sys.argv[1])) as cache:\n"
        "    for i in range(200): cache.put(bytes([int(sys.argv[2])]) + i.to_bytes(31), RawReply('x'), model='m')\n"
    )
    path = tmp_path / "c.sqlite"
    running = [subprocess.Popen([sys.executable, "-c", program, path, str(number)]) for number in (1, 2)]
    assert [process.wait(120) for process in running] == [0, 0]
    with ReplyCache(path) as cache:
        assert len(cache) == 400


def test_killed_right_after_paying(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from onesense.explain.endpoint.cache import ReplyCache, RawReply\n"
        "cache = ReplyCache(Path(sys.argv[1])); cache.put(bytes(32), RawReply('paid'), model='m')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "c.sqlite"
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == -signal.SIGKILL
    with ReplyCache(path) as cache:
        assert cache.get(bytes(32)) == RawReply("paid")


def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.sqlite"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with caplog.at_level(logging.WARNING), ReplyCache(path) as cache:
        cache.put(QUESTION, RAW, model="m")
        assert cache.get(QUESTION) == RAW
    assert "damaged" in caplog.text
    assert len(list(tmp_path.glob("c.sqlite.damaged-*"))) == 1


def test_a_page_that_breaks_while_open_is_borne(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.sqlite"
    with ReplyCache(path) as cache:
        for number in range(500):
            cache.put(number.to_bytes(32), RawReply("x" * 500), model="m")
    size = path.stat().st_size
    with path.open("r+b") as file:
        for offset in range(8192, size, 4096):
            file.seek(offset)
            file.write(os.urandom(4096))
    with ReplyCache(path) as cache:
        for number in range(500):
            cache.get(number.to_bytes(32))
        cache.put(QUESTION, RAW, model="m")
        assert cache.get(QUESTION) == RAW
    assert list(tmp_path.glob("c.sqlite.damaged-*"))


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IncompatibleError, match="newer"):
        ReplyCache(path)
    assert path.exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="file"):
        ReplyCache(tmp_path / "file" / "c.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder"):
        ReplyCache(tmp_path / "folder")
