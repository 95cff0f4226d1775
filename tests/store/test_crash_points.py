"""kill -9 at every step that touches the disk: the same command resumes and ends in the same bytes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    script = Path(__file__).with_name("crash_points.py")
    base = tmp_path_factory.mktemp("crash points")
    done = subprocess.run([sys.executable, script, base], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_step_was_reached_and_killed(outcomes):
    assert all(outcome["died"] for outcome in outcomes)


def test_every_killed_run_resumes(outcomes):
    assert [outcome for outcome in outcomes if not outcome["resumed"]] == []


def test_every_resumed_run_ends_in_the_bytes_of_one_that_was_not_killed(outcomes):
    assert [outcome for outcome in outcomes if outcome["different"]] == []


@pytest.mark.parametrize(
    ("stage", "times"),
    [
        ("replace .onesense-tmp", 6),  # run.json, two shards and their sidecars, the merged result
        ("sql COMMIT", 2),  # migrations, features
        ("sql INSERT INTO features", 3),
        ("unlink .safetensors", 2),  # clearing the shards away
        ("rmdir", 1),
    ],
)
def test_the_stages_that_matter_are_among_them(outcomes, stage, times):
    assert [outcome["name"] for outcome in outcomes].count(stage) == times
