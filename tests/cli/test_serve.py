"""``onesense serve``: what it refuses, how it ends, and that it looks on while a command writes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command_line import Outcome
from onesense.engine.stages import Silent
from onesense.store.progress import RecordedStages
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder

_ONESENSE = [sys.executable, "-c", "from onesense.cli.main import main; main()", "serve"]
_AT = re.compile(r"http://\S+:\d+")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Start the command in an empty folder; gives the process and the address that it told."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [*_ONESENSE, *arguments, "--port", "0"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        running.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        found = _AT.search(line)
        assert found, line + process.stderr.read()
        return process, found[0]

    yield begin
    for process in running:
        process.kill()
        process.wait()


def _read(address: str) -> dict:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org", "192.168.1.2", "127.0.0.1:80", ""])
def test_only_this_machine_is_served(onesense: Callable[..., Outcome], host: str) -> None:
    told = onesense("serve", "--host", host)
    assert told.code == 2
    assert "cannot be opened to other machines" in told.err
    assert "ssh -L" in told.err


def test_a_port_that_is_taken_is_told(onesense: Callable[..., Outcome], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        told = onesense("serve", "--port", port)
    assert told.code == 2
    assert f"Port {port} is taken" in told.err
    assert "--port" in told.err


@pytest.mark.parametrize("name", ["none", "file.txt"])
def test_what_is_no_folder_is_told(onesense: Callable[..., Outcome], tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").touch()
    told = onesense("serve", tmp_path / name)
    assert told.code == 2
    assert "is not a folder" in told.err


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_what_is_no_port_is_told(onesense: Callable[..., Outcome], port: str) -> None:
    assert onesense("serve", "--port", port).code == 2


def test_help_names_every_flag(onesense: Callable[..., Outcome]) -> None:
    told = onesense("serve", "--help")
    assert told.code == 0
    for flag in ("--port", "--host", "--open", "--device"):
        assert flag in told.out


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_without_a_fuss(start: Callable[..., tuple[subprocess.Popen[str], str]], sent: int) -> None:
    process, address = start()
    assert _read(f"{address}/index.json")["count"] == 0
    process.send_signal(sent)
    assert process.wait(30) in ((0, 130) if sent == signal.SIGINT else (0, 143, -signal.SIGTERM))
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


def test_it_looks_on_while_a_command_writes(
    start: Callable[..., tuple[subprocess.Popen[str], str]], tmp_path: Path
) -> None:
    _, address = start()
    run = RunFolder.create_or_resume(
        tmp_path / "onesense-runs" / "at-work",
        command="extract",
        configuration={"model": "demo"},
        provenance=provenance(seeds=0),
    )
    with run.lock(), RecordedStages(Silent(), run.path).stage("Reading", "tokens"):
        before = sorted(path.name for path in run.path.iterdir())
        told = _read(f"{address}/runs/at-work.json")["run"]
        assert told["state"] == "running"
        assert told["progress"]["title"] == "Reading"
        assert told["progress"]["process"] == os.getpid()
        assert sorted(path.name for path in run.path.iterdir()) == before
        run.write_shard(0, {})
    with run.lock():
        assert run.shard_done(0)
    assert _read(f"{address}/runs/at-work.json")["run"]["state"] == "stopped"
