"""The contexts pass, killed and taken up again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from features.tiny_contexts import (
    SETTINGS,
    collected,
    files,
    tiny_dictionary,
    word_documents,
)
from onesense.errors import (
    IncompatibleError,
)
from onesense.store.run_folder import RunFolder

CHILD = """
import json, os, signal, sys
from pathlib import Path
from features.tiny_contexts import collected
from onesense.store.run_folder import RunFolder

def dying(original, left):
    def call(*arguments, **more):
        left.pop()
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **more)
    return call

for name, method, call in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        setattr(RunFolder, method, dying(getattr(RunFolder, method), [None] * call))
        collected(Path(name))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(name if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL else "survived")
"""
# The method of the run folder, and the call of it, before which the process is killed.
KILLS = [
    ("write_shard", 1),
    ("write_shard", 3),
    ("write_result", 1),
    ("write_result", 2),
    ("clear_partials", 1),
]


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> dict[tuple[str, int], Path]:
    """Run folders that processes left behind when they were killed, one for each entry of KILLS."""
    parent = tmp_path_factory.mktemp("killed")
    folders = {(method, call): parent / f"{method}-{call}" for method, call in KILLS}
    plan = [(str(folder), method, call) for (method, call), folder in folders.items()]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(plan)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [name for name, _, _ in plan]
    return folders


@pytest.mark.parametrize("kill", KILLS, ids=str)
def test_killed_and_resumed_ends_in_the_same_bytes(tmp_path, killed, kill) -> None:
    collected(tmp_path / "whole")
    left = files(killed[kill])
    assert left != files(tmp_path / "whole")
    assert any(name.startswith("partials/shard-") for name in left) == (kill != ("write_shard", 1))
    collected(killed[kill])
    assert files(killed[kill]) == files(tmp_path / "whole")


def interrupted(path: Path, monkeypatch, **more) -> None:
    """Stop a run once all shards are done and before any result is written."""

    def stop(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_result", stop)
        with pytest.raises(KeyboardInterrupt):
            collected(path, **more)


def test_resume_does_only_what_is_missing(tmp_path, monkeypatch) -> None:
    interrupted(tmp_path / "run", monkeypatch)
    shards = sorted((tmp_path / "run" / "partials").glob("*.safetensors"))
    assert len(shards) > 3
    shards[1].unlink()
    shards[2].write_bytes(shards[2].read_bytes()[:-1])
    written = []
    original = RunFolder.write_shard
    monkeypatch.setattr(
        RunFolder, "write_shard", lambda self, index, t: written.append(index) or original(self, index, t)
    )
    collected(tmp_path / "run")
    assert written == [1, 2]


def test_shards_of_another_text_are_done_again(tmp_path, monkeypatch) -> None:
    interrupted(tmp_path / "run", monkeypatch, documents=word_documents(30))
    collected(tmp_path / "run")
    collected(tmp_path / "fresh")
    assert files(tmp_path / "run") == files(tmp_path / "fresh")


def test_finished_contexts_are_opened(tmp_path) -> None:
    first = collected(tmp_path / "run")
    before = files(tmp_path / "run")

    def unread():
        pytest.fail("the text was read again")
        yield

    again = collected(tmp_path / "run", documents=unread())
    assert (again.count == first.count).all()
    assert files(tmp_path / "run") == before
    with pytest.raises(IncompatibleError, match="other"):
        collected(tmp_path / "run", settings=replace(SETTINGS, seed=5))
    with pytest.raises(IncompatibleError, match="another model"):
        collected(tmp_path / "run", dictionary=tiny_dictionary("blocks.0.hook_resid_post"))


def test_a_block_that_was_deleted_is_made_again(tmp_path) -> None:
    collected(tmp_path)
    before = files(tmp_path)
    (tmp_path / "contexts" / "block-0000.safetensors").unlink()
    collected(tmp_path)
    assert files(tmp_path) == before
