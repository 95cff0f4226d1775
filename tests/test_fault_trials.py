"""A few of the trials of ``benchmarks.faults``: struck, run again, and the same bytes as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.fault_trials.snapshot import half_written, refused_by_its_reader, snapshot, temporaries
from onesense.store.atomic import write_json, write_tensors

ROOT = Path(__file__).parents[1]
FAULTS = (
    "kill -9 at a call",
    "kill -9 at a moment",
    "SIGTERM",
    "disk full (calls fail)",
    "damaged file",
    "two writers",
)


def test_struck_commands_end_in_the_bytes_of_undisturbed_ones(tmp_path: Path) -> None:
    output = tmp_path / "faults.json"
    chosen = [word for fault in FAULTS for word in ("--fault", fault)]
    # A process of its own: trials fork, which a process with the threads of other tests must not do.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "--trials", "10", "--seed", "5", "--output", output,
         "--command", "extract", "--command", "steer", *chosen],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    trials = json.loads(output.read_text())["trials"]
    assert len(trials) == 10
    assert {one["command"] for one in trials} == {"extract", "steer"}
    assert len({one["fault"] for one in trials}) > 3


def test_what_is_half_written_is_seen(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    write_tensors(tmp_path / "b.safetensors", {})
    whole = snapshot(tmp_path)
    assert half_written(tmp_path, whole) == []
    (tmp_path / "c.png").write_bytes(b"half")
    (tmp_path / "a.json").write_text('{"x":')
    (tmp_path / "b.safetensors").write_bytes(b"")
    assert half_written(tmp_path, whole) == ["a.json", "b.safetensors", "c.png"]
    assert refused_by_its_reader(tmp_path / "b.safetensors")


@pytest.mark.parametrize("name", [".a-1.onesense-tmp", ".progress.7.tmp"])
def test_what_is_left_over_is_seen(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert temporaries(tmp_path) == [name]
    assert snapshot(tmp_path) == {}
