"""A Ray cluster: reached by its address, or started on this machine for one command."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import torch

from onesense.engine.ray_worker import Answer, SentFunction, Worker
from onesense.errors import ConfigurationError

LOCAL = "local"
_OLDEST = (2, 52)  # token authentication; CVE-2025-62593 is mended there
_HERE = "127.0.0.1"
_SECONDS_TO_ANSWER = 5
_HOST_AND_PORT = re.compile(r"(.+):(\d{1,5})")


class Cluster:
    """See ``RayExecutor`` for the arguments.

    Attributes:
        needs: What a worker takes of a machine, in words.

    Raises:
        ConfigurationError: Ray is not installed, too old, or not reachable at the address.
    """

    def __init__(self, address: str, *, threads: int | None, gpus: float) -> None:
        self._threads = threads or torch.get_num_threads()
        self._gpus = gpus
        self.needs = f"{self._threads} free cores" + (f" and {gpus:g} GPUs" if gpus else "")
        _require_ray()
        self._ours = _connect(address)

    def places(self) -> int:
        """Workers for which the machines that are alive have room."""
        import ray

        return sum(self._on_machine(one["Resources"]) for one in ray.nodes() if one["Alive"])

    def hand_out(self, work: SentFunction) -> Any:
        """Put a function where every worker gets it from."""
        import ray

        return ray.put(work)

    def hire(self) -> Any:
        """A worker, spread over the machines."""
        import ray

        # Parts of a worker that dies are given to others here, so Ray itself tries nothing again.
        options = {
            "num_cpus": self._threads,
            "num_gpus": self._gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        actor = ray.remote(Worker).options(scheduling_strategy="SPREAD", **options)
        return actor.remote(self._threads)

    def wait(self, running: Iterable[Any], seconds: float) -> list[Any]:
        """The answers that are there, or that come within so many seconds."""
        import ray

        references = list(running)
        if not references:
            return []
        first, _ = ray.wait(references, num_returns=1, timeout=seconds)
        if not first:
            return []
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        return list(ready)

    def fetch(self, reference: Any) -> tuple[Answer | None, str]:
        """What a worker answered; None where it, or its machine, is gone, and why.

        Raises:
            Exception: What went wrong in the worker and is no error of ours: it would go wrong everywhere.
        """
        import ray

        try:
            answer: Answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            return None, (str(error).strip().splitlines() or [type(error).__name__])[0]
        return answer, ""

    def dismiss(self, workers: Iterable[Any]) -> None:
        """End workers and free their cores."""
        import ray

        for worker in workers:
            ray.kill(worker)

    def close(self) -> None:
        """Leave the cluster where this process joined it."""
        import ray

        if self._ours and ray.is_initialized():
            ray.shutdown()
        self._ours = False

    def _on_machine(self, resources: dict[str, float]) -> int:
        by_cores = int(resources.get("CPU", 0) // self._threads)
        return min(by_cores, int(resources.get("GPU", 0) // self._gpus)) if self._gpus else by_cores


def _require_ray() -> None:
    try:
        version = metadata.version("ray")
    except metadata.PackageNotFoundError as error:
        raise ConfigurationError(
            "Ray is not installed.", hint="Install it on every machine: pip install 'onesense[ray]'."
        ) from error
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise ConfigurationError(
            f"Ray {version} is too old: anybody who reaches its ports can run code.",
            hint="Install 2.52 or newer on every machine, and set RAY_AUTH_MODE=token.",
        )


def _connect(address: str) -> bool:
    """Join the cluster; False where this process had joined one before."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:
        # Before Ray is imported: other accounts of this machine reach its ports, too.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_worker_niceness", "0")  # they do the work of this very command
    import ray

    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address == LOCAL:
            ray.init(num_cpus=os.cpu_count(), include_dashboard=False, _node_ip_address=_HERE, **quiet)
        else:
            _require_answer(address)
            ray.init(address=address, **quiet)
    except Exception as error:
        raise ConfigurationError(
            f"There is no Ray cluster at `{address}`: {(str(error).splitlines() or [''])[0][:300]}",
            hint="Start one (RAY_AUTH_MODE=token ray start --head), give host:port, or --ray local.",
        ) from error
    return True


def _require_answer(address: str) -> None:
    """Ray itself takes minutes to say that nobody is there.

    Raises:
        OSError: Nobody answers.
    """
    named = _HOST_AND_PORT.fullmatch(address)
    if named and "//" not in address:
        with socket.create_connection((named[1].strip("[]"), int(named[2])), _SECONDS_TO_ANSWER):
            return
