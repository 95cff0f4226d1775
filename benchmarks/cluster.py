"""What a cluster changes: not one byte, and the time.

``python -m benchmarks.cluster`` reads text with the demo model and its dictionary (``extract``) and measures two
benchmarks of a recipe (``audit``) in one process, on a Ray cluster of two nodes, on one that loses a node halfway,
and, where this process may make them (root, ``ip``), on two hosts in network namespaces with and without such a loss.
It compares the SHA-256 of every file, then reads the same text with one and with two workers of one thread each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import secrets
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.ray_nodes import ray_nodes

_PORT = 6399
_HOSTS = {"onesense-a": "10.77.0.1", "onesense-b": "10.77.0.2"}
_BENCHMARKS = ("winogender", "crows-pairs-gender")
SHARD_WINDOWS = 8
"""Of a part where bytes are compared: many small parts, so that a node is lost in the middle."""
_SPEED_WINDOWS = 32
"""Of a part where speed is measured; the default of ``extract`` is 1,024."""
_STOP_AFTER = 2


class _Told:
    """Calls a function once, in the middle of the stage that a cluster does, and takes that stage's time."""

    def __init__(self, then: Callable[[], None] | None) -> None:
        self._then = then
        self.seconds = 0.0

    def stage(self, title: str, unit: str) -> AbstractContextManager[Callable[[int, int | None], None]]:  # noqa: ARG002
        """See ``Stages``."""
        return self._stage(title)

    @contextmanager
    def _stage(self, title: str) -> Iterator[Callable[[int, int | None], None]]:
        steps, shared = 0, title.startswith(("Contexts", "Scoring"))

        def progress(_done: int, _total: int | None) -> None:
            nonlocal steps
            steps += 1
            if self._then is not None and steps == _STOP_AFTER and shared:
                self._then()
                self._then = None

        began = time.perf_counter()
        yield progress
        self.seconds += time.perf_counter() - began if shared else 0.0


def run(
    command: str,
    folder: Path,
    tokens: int,
    executor: Any,
    then: Callable[[], None] | None = None,
    windows: int = SHARD_WINDOWS,
) -> float:
    """Run a command of onesense; seconds of the stage that a cluster does.

    Args:
        command: ``extract`` or ``audit``.
        folder: Its run folder.
        tokens: That ``extract`` reads.
        executor: Where it works.
        then: Called in the middle of it.
        windows: Of a part that ``extract`` hands out.
    """
    from onesense.bias.audit import AuditSettings, audit
    from onesense.features.contexts import ContextSettings
    from onesense.features.extract import ExtractSettings, extract
    from onesense.model.load import load_model
    from onesense.sae.load import load_dictionary
    from onesense.steer.edit import Edit
    from onesense.steer.recipe import EditGroup, make_recipe

    model = load_model("demo")
    dictionary = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post")
    stages = _Told(then)
    if command == "extract":
        contexts = ContextSettings(max_tokens=tokens, windows_per_shard=windows)
        wanted = ExtractSettings(contexts=contexts, check=False, dtype="float32")
        extract(model, dictionary, folder, wanted, stages=stages, executor=executor)
        return stages.seconds
    recipe = make_recipe(model, [EditGroup(dictionary, [Edit.plain(999, -4.0)])])
    chosen = AuditSettings(benchmarks=_BENCHMARKS, draws=200)
    audit(model, folder, recipe=recipe, settings=chosen, stages=stages, executor=executor)
    return stages.seconds


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file; of the catalogue, of what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "catalog.sqlite":
            with sqlite3.connect(path) as connection:
                content = "\n".join(connection.iterdump()).encode()
        elif path.suffix in (".safetensors", ".json") and not path.name.startswith("."):
            content = path.read_bytes()
        else:
            continue
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


@contextmanager
def hosts() -> Iterator[dict[str, str]]:
    """Two hosts with an address and a node of Ray each; the environment of a process that works with them."""
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    first, second = _HOSTS
    remove_hosts()
    _ip("netns", "add", first)
    _ip("netns", "add", second)
    _ip(
        "link",
        "add",
        "onesense0",
        "netns",
        first,
        "type",
        "veth",
        "peer",
        "name",
        "onesense1",
        "netns",
        second,
    )
    for (host, address), link in zip(_HOSTS.items(), ("onesense0", "onesense1"), strict=True):
        _ip("-n", host, "addr", "add", f"{address}/24", "dev", link)
        _ip("-n", host, "link", "set", link, "up")
        _ip("-n", host, "link", "set", "lo", "up")
    start = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus=1", "--disable-usage-stats"]
    head = f"{_HOSTS[first]}:{_PORT}"
    try:
        for host, more in (
            (first, ["--head", f"--port={_PORT}", "--include-dashboard=false"]),
            (second, [f"--address={head}"]),
        ):
            command = [*start, f"--node-ip-address={_HOSTS[host]}", *more]
            done = subprocess.run(
                _inside(host, command), env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"ray start in {host}: {done.stdout[-500:]}{done.stderr[-500:]}")
        yield environment
    finally:
        remove_hosts()


def remove_hosts() -> None:
    """End all processes of both hosts and take the hosts away."""
    for host in _HOSTS:
        end_host(host)
        subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


def end_host(host: str) -> None:
    """Kill every process of a host at once, as when its power goes."""
    found = subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True, check=False)
    for pid in found.stdout.split():
        if int(pid) != os.getpid():
            os.kill(int(pid), signal.SIGKILL)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _inside(host: str, command: list[str]) -> list[str]:
    return ["ip", "netns", "exec", host, *command]


def on_hosts(command: str, folder: Path, tokens: int, *, lose: bool) -> None:
    """Run a command on two hosts; with ``lose`` the second is lost in the middle."""
    with hosts() as environment:
        own = [
            "--child",
            command,
            "--folder",
            str(folder),
            "--tokens",
            str(tokens),
            *(["--lose"] if lose else []),
        ]
        child = _inside("onesense-a", [sys.executable, "-m", "benchmarks.cluster", *own])
        subprocess.run(child, env=environment, check=True)


def compare(command: str, tokens: int, work: Path) -> bool:
    """One process against clusters; whether every file is the same."""
    from onesense.engine.executor import LocalExecutor
    from onesense.engine.ray_executor import RayExecutor

    run(command, work / f"{command}-one", tokens, LocalExecutor(), None)
    expected = contents(work / f"{command}-one")
    equal = True

    def tell(where: str) -> None:
        nonlocal equal
        found = contents(work / f"{command}-{where}")
        same = sum(found.get(name) == digest for name, digest in expected.items())
        equal = equal and found == expected
        print(f"{command:8} {where:28} {same} of {len(expected)} files the same", flush=True)

    for where, lose in (("two nodes", False), ("two nodes, one lost", True)):
        with ray_nodes(1, 1) as cluster, closing(RayExecutor("auto", threads=1)) as executor:
            then = (lambda: cluster.remove_node(cluster.nodes[1], allow_graceful=False)) if lose else None
            run(command, work / f"{command}-{where}", tokens, executor, then)
        tell(where)
    if os.geteuid() == 0 and shutil.which("ip"):
        for where, lose in (("two hosts", False), ("two hosts, one lost", True)):
            on_hosts(command, work / f"{command}-{where}", tokens, lose=lose)
            tell(where)
    else:
        print("Two hosts: left out; it takes root and `ip`.")
    return equal


def speed(tokens: int, work: Path) -> tuple[float, float]:
    """Seconds of the contexts pass with one and with two workers, after a first part that loads everything."""
    from onesense.engine.ray_executor import RayExecutor

    times = []
    for workers in (1, 2):
        with ray_nodes(*[1] * workers), closing(RayExecutor("auto", threads=1)) as executor:
            run("extract", work / f"warm-{workers}", SHARD_WINDOWS * 127 * 2 * workers, executor)
            times.append(run("extract", work / f"speed-{workers}", tokens, executor, windows=_SPEED_WINDOWS))
    return times[0], times[1]


def apart(tokens: int, work: Path) -> tuple[float, float]:
    """Seconds of the same pass in one process alone, and in each of two that know nothing of one another, on average.

    What two cores of this machine can do at most: they share its memory.
    """
    context = multiprocessing.get_context("spawn")
    means = []
    for processes in (1, 2):
        with context.Pool(processes) as pool:
            folders = [work / f"apart-{processes}-{number}" for number in range(processes)]
            means.append(
                statistics.mean(pool.starmap(_alone, [(tokens, one) for one in folders], chunksize=1))
            )
    return means[0], means[1]


def _alone(tokens: int, folder: Path) -> float:
    import torch

    from onesense.engine.executor import LocalExecutor

    torch.set_num_threads(1)
    run("extract", folder / "warm", SHARD_WINDOWS * 127 * 2, LocalExecutor())
    return run("extract", folder / "run", tokens, LocalExecutor(), windows=_SPEED_WINDOWS)


def main() -> int:
    """Compare and measure; 1 where a file differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--tokens", type=int, default=12_000)
    parser.add_argument("--speed-tokens", type=int, default=20 * _SPEED_WINDOWS * 127)
    parser.add_argument("--only", choices=["bytes", "speed"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lose", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    import torch

    torch.set_num_threads(1)
    if asked.child:
        from onesense.engine.ray_executor import RayExecutor

        then = (lambda: end_host("onesense-b")) if asked.lose else None
        with closing(RayExecutor(f"{_HOSTS['onesense-a']}:{_PORT}", threads=1)) as executor:
            run(asked.child, asked.folder, asked.tokens, executor, then)
        return 0
    equal = True
    with tempfile.TemporaryDirectory() as place:
        if asked.only != "speed":
            for command in ("extract", "audit"):
                equal = compare(command, asked.tokens, Path(place)) and equal
        if asked.only != "bytes":
            tokens = asked.speed_tokens // (4 if asked.quick else 1)
            one, two = speed(tokens, Path(place))
            alone, beside = apart(tokens // 2, Path(place))
            told = {
                "one_worker_s": round(one, 1),
                "two_workers_s": round(two, 1),
                "ratio": round(one / two, 2),
                "two_processes_apart_ratio": round(2 * alone / beside, 2),
            }
            print(json.dumps(told))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
