"""What a run folder says of the command that writes to it, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from onesense.engine.stages import Silent
from onesense.store.lock import LOCK_NAME, exclusive_lock, lock_holder
from onesense.store.progress import PROGRESS_NAME, Progress, RecordedStages, read_progress
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder

WRITER = """
import sys, time
from onesense.engine.stages import Silent
from onesense.store.progress import RecordedStages
from onesense.store.run_folder import RunFolder
with RunFolder.open(sys.argv[1]).lock(), RecordedStages(Silent(), sys.argv[1]).stage("Reading", "tokens"):
    print("at work", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create_or_resume(
        tmp_path / "run", command="extract", configuration={}, provenance=provenance(seeds=0)
    )


def test_a_command_says_how_far_it_is_and_then_leaves_nothing(run: RunFolder) -> None:
    before = {path.name for path in run.path.iterdir()}
    with run.lock():
        assert read_progress(run.path) == Progress(os.getpid())
        with RecordedStages(Silent(), run.path).stage("Reading", "tokens") as progress:
            assert read_progress(run.path) == Progress(os.getpid(), "Reading", "tokens")
            progress(5, 10)
    assert read_progress(run.path) is None
    assert {path.name for path in run.path.iterdir()} == before


def test_it_tells_at_most_once_a_second(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("onesense.store.progress.time.monotonic", lambda: clock[0])
    with run.lock(), RecordedStages(Silent(), run.path).stage("Reading", "tokens") as progress:
        progress(1, 10)
        assert read_progress(run.path).done == 0
        clock[0] += 1
        progress(2, 10)
        progress(3, 10)
        assert read_progress(run.path) == Progress(os.getpid(), "Reading", "tokens", 2, 10)


def test_it_holds_no_time_and_no_path(run: RunFolder) -> None:
    with run.lock(), RecordedStages(Silent(), run.path).stage("Reading", "tokens"):
        found = json.loads((run.path / PROGRESS_NAME).read_bytes())
    assert found == {"title": "Reading", "unit": "tokens", "done": 0, "total": None}


def test_without_the_lock_nothing_is_written(tmp_path: Path) -> None:
    with RecordedStages(Silent(), tmp_path / "none").stage("Reading", "tokens") as progress:
        progress(1, 2)
    with RecordedStages(Silent(), tmp_path).stage("Reading", "tokens"):
        assert list(tmp_path.iterdir()) == []


def test_the_other_stages_are_told_everything_also_where_the_disk_is_full(
    run: RunFolder, monkeypatch
) -> None:
    told = []

    class Telling(Silent):
        def stage(self, title, unit):
            told.append((title, unit))
            return super().stage(title, unit)

    def full(*_arguments, **_named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with run.lock(), RecordedStages(Telling(), run.path).stage("Reading", "tokens") as progress:
        progress(1, 2)
        assert read_progress(run.path) == Progress(os.getpid())
    assert told == [("Reading", "tokens")]


def test_a_killed_writer_is_not_at_work_and_the_next_one_clears_up(run: RunFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, run.path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"at work\n"
        assert read_progress(run.path) == Progress(writer.pid, "Reading", "tokens")
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert (run.path / PROGRESS_NAME).exists()
    assert read_progress(run.path) is None
    with run.lock():
        assert not (run.path / PROGRESS_NAME).exists()


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"[]", b"3", b"\xff", b'{"title": 1}', b"[" * 9000, b'{"title":"","unit":"","done":[],"total":1}',
     b'{"title":"","unit":"","done":Infinity,"total":1}', b'{"title":"","unit":"","done":1,"total":NaN}'],
)  # fmt: skip
def test_a_damaged_file_says_nothing(run: RunFolder, damaged: bytes) -> None:
    with run.lock():
        (run.path / PROGRESS_NAME).write_bytes(damaged)
        assert read_progress(run.path) == Progress(os.getpid())


@pytest.mark.parametrize("text", ["", "x", "-1", "0" * 9, "99999999999999999999", "²", "12 34"])
def test_what_is_no_process_holds_no_lock(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_NAME).write_text(text)
    assert lock_holder(tmp_path) is None
    assert read_progress(tmp_path) is None


def test_asking_who_writes_makes_nothing(tmp_path: Path) -> None:
    assert lock_holder(tmp_path / "none") is None
    assert list(tmp_path.iterdir()) == []
    with exclusive_lock(tmp_path):
        assert lock_holder(tmp_path) == os.getpid()
    assert lock_holder(tmp_path) is None
