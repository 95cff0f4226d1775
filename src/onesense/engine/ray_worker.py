"""What is sent to another process, what runs there, and what comes back."""

from __future__ import annotations

import platform
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np

from onesense.engine.shared_storage import SharedStorage
from onesense.errors import IncompatibleError, OnesenseError

# Results are the same bytes only where the same code adds them up.
_SAME_EVERYWHERE = ("torch", "numpy", "transformers", "onesense")


@dataclass(frozen=True, slots=True)
class SentFunction:
    """A function on its way to the workers.

    Attributes:
        pickled: The function; models and dictionaries in it are addresses.
        name: Of this call; no other has it.
        versions: Of the software that it was planned with.
        storage: Where arrays go; None for the cluster's memory.
    """

    pickled: bytes
    name: str
    versions: dict[str, str]
    storage: SharedStorage | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a part: a result, or the error that the function raised."""

    result: Any = None
    error: BaseException | None = None


def sent(function: Callable[[Any], Any], storage: SharedStorage | None) -> SentFunction:
    """Make a function ready to be sent."""
    from ray import cloudpickle

    return SentFunction(cloudpickle.dumps(function), uuid.uuid4().hex, software(), storage)


def software() -> dict[str, str]:
    """Versions that decide the bytes of a result."""
    found = {name: metadata.version(name) for name in _SAME_EVERYWHERE}
    return {"python": ".".join(platform.python_version_tuple()[:2]), **found}


class Worker:
    """Runs parts of the work, one after the other, with all that the function needs kept in memory.

    Args:
        threads: Of torch.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._name = ""
        self._function: Callable[[Any], Any] | None = None

    def ready(self) -> Answer:
        """The worker is there."""
        return Answer()

    def run(self, work: SentFunction, number: int, item: Any) -> Answer:
        """The result of a part, or the error that would come back anywhere else, too."""
        try:
            result = self._opened(work)(item)
            if work.storage is not None and _is_arrays(result):
                result = work.storage.put(f"{work.name}/{number:06d}", result)
            return Answer(result)
        except (OnesenseError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            return Answer(error=_sendable(error))

    def _opened(self, work: SentFunction) -> Callable[[Any], Any]:
        if self._function is None or self._name != work.name:
            _require_same(work.versions)
            from ray import cloudpickle

            self._function, self._name = cloudpickle.loads(work.pickled), work.name
            torch = sys.modules.get("torch")  # where the function needs it, it is there by now
            if torch is not None:
                torch.set_num_threads(self._threads)
        return self._function


def _require_same(planned: dict[str, str]) -> None:
    here = software()
    other = [name for name, version in planned.items() if here[name] != version]
    if other:
        raise IncompatibleError(
            f"{platform.node()} has {', '.join(f'{name} {here[name]}' for name in other)} where the work was planned "
            f"with {', '.join(f'{name} {planned[name]}' for name in other)}.",
            hint="Install the same versions on every machine: results must be the same bytes.",
        )


def _is_arrays(result: Any) -> bool:
    return isinstance(result, dict) and all(isinstance(one, np.ndarray) for one in result.values())


def _sendable(error: BaseException) -> BaseException:
    """The error without what it came from, which may hold anything."""
    error.__traceback__ = None
    error.__cause__ = error.__context__ = None
    return error
