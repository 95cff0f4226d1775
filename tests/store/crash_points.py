"""Kills a run at every step that touches the disk, resumes it, and compares the folder. Run as a script.

Each run is a forked child that SIGKILLs itself before its n-th step, for every n there is. A step is a call
of the operating system that changes a file, or a statement of SQLite. Prints one line of JSON: for each n the
step, and whether the resumed run ended in the bytes of one that was never killed.
"""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path

import numpy as np

from onesense.engine.executor import LocalExecutor, plan_shards
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.run_folder import RunFolder

WATCHED = ("open", "write", "fsync", "replace", "unlink", "rmdir", "ftruncate")


def run_once(folder: Path) -> None:
    run = RunFolder.create_or_resume(
        folder, command="extract", configuration={"k": 3}, provenance={"inputs": {"model": "m"}, "seeds": 1}
    )
    with run.lock():
        if not run.has_result("stats"):

            def work(shard):
                if not run.shard_done(shard.index):
                    run.write_shard(shard.index, {"sum": np.arange(shard.start, shard.stop) * 0.1})
                return run.read_shard(shard.index)["sum"]

            parts = list(LocalExecutor().map_shards(work, plan_shards(10, 6)))
            run.write_result("stats", {"all": np.concatenate(parts)})
        with Catalog(run.catalog_path) as catalog:
            catalog.replace_features(
                [FeatureRow(n, mean=n / 7, top_tokens=[f"word{n}"]) for n in range(3)],
            )
        run.clear_partials()


def snapshot(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_before(step: int, steps: list[str]) -> None:
    """Count the steps of this process from now on, and die before the one with this number."""

    def count(name: str) -> None:
        steps.append(name)
        if len(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(name, original):
        def call(*arguments, **keywords):
            if name != "open" or arguments[1] & (os.O_CREAT | os.O_DIRECTORY):
                first = arguments[0] if arguments else ""
                count(f"{name} {Path(first).suffix if isinstance(first, str | os.PathLike) else ''}".strip())
            return original(*arguments, **keywords)

        return call

    for name in WATCHED:
        setattr(os, name, watched(name, getattr(os, name)))
    connect = sqlite3.connect

    def traced(*arguments, **keywords):
        connection = connect(*arguments, **keywords)
        connection.set_trace_callback(lambda statement: count(f"sql {' '.join(statement.split()[:3])}"))
        return connection

    sqlite3.connect = traced


def in_child(work) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main(base: Path) -> None:
    os.fsync = lambda descriptor: None  # what a killed process wrote is safe in the system's cache
    run_once(base / "whole")
    expected = snapshot(base / "whole")

    def count_steps() -> None:
        steps: list[str] = []
        kill_before(0, steps)
        run_once(base / "counted")
        (base / "steps.json").write_text(json.dumps(steps))

    in_child(count_steps)
    names = json.loads((base / "steps.json").read_text())
    outcomes = []
    for step, name in enumerate(names, start=1):
        folder = base / f"killed-{step}"

        def killed(step=step, folder=folder) -> None:
            kill_before(step, [])
            run_once(folder)

        status = in_child(killed)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        resumed = in_child(lambda folder=folder: run_once(folder)) == 0
        found = snapshot(folder)
        different = [path for path in sorted({*found, *expected}) if found.get(path) != expected.get(path)]
        outcomes.append(
            {"step": step, "name": name, "died": died, "resumed": resumed, "different": different}
        )
        shutil.rmtree(folder)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
