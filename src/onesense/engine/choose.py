"""The executor that a command is asked to use."""

from __future__ import annotations

from onesense.engine.executor import Executor, LocalExecutor


def open_executor(address: str | None, *, storage: str | None = None, device: str = "cpu") -> Executor:
    """This process, or a Ray cluster.

    Args:
        address: See ``RayExecutor``; None for this process.
        storage: See ``RayExecutor``.
        device: What the work runs on; a worker gets a GPU where it is one.

    Raises:
        ConfigurationError: See ``RayExecutor``.
    """
    if address is None:
        return LocalExecutor()
    from onesense.engine.ray_executor import RayExecutor

    return RayExecutor(address, storage=storage, gpus=1 if device == "cuda" else 0)
