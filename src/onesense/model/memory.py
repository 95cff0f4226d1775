"""What a run will take of main memory, said before it begins and held to."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from onesense.errors import DeviceError
from onesense.model.language_model import LanguageModel

_LESS = "Load the model in a narrower format (--dtype bfloat16), spread it (--device-map auto)"


@dataclass(frozen=True, slots=True)
class MemoryNeeded:
    """Bytes of main memory at the highest point, by what needs them.

    Attributes:
        libraries: Code and tables.
        model: Weights.
        dictionaries: Their tensors.
        activations: Of the texts that go through the model together, or the keys and values of those that are
            generated.
        findings: What is kept of every feature.
    """

    libraries: int
    model: int
    dictionaries: int
    activations: int
    findings: int = 0

    @property
    def total(self) -> int:
        """At the highest point."""
        return self.libraries + self.model + self.dictionaries + self.activations + self.findings

    def __str__(self) -> str:
        parts = ("model", "dictionaries", "activations", *(("findings",) if self.findings else ()))
        named = ", ".join(f"{name} {gigabytes(getattr(self, name))}" for name in parts)
        return f"about {gigabytes(self.total)} GB of memory at most ({named})"

    def require(self, *, force: bool, hint: str = _LESS) -> None:
        """Refuse what this machine has no memory for.

        Args:
            force: Whether to go on all the same.
            hint: What takes less.

        Raises:
            DeviceError: More is needed than is free, and ``force`` is off.
        """
        require_room(self.total, self, hint=hint, force=force)


def weights_in_memory(model: LanguageModel) -> int:
    """Bytes of main memory that the weights take; those on a GPU or on disk take none."""
    places: dict[str, int | str] = getattr(model.hf, "hf_device_map", None) or {}
    counted: dict[int, int] = {}
    for name, weight in model.hf.named_parameters():
        # What waits in main memory for a GPU is on no device between two passes.
        here = _place(name, places) == "cpu" if weight.is_meta else weight.device.type == "cpu"
        if here:
            counted[id(weight)] = weight.nbytes
    return sum(counted.values())


def require_room(needed: int, said: object, *, hint: str, force: bool) -> None:
    """Refuse what this machine has no memory for.

    Args:
        needed: Bytes at the highest point, those of this process included.
        said: The estimate in words.
        hint: What takes less.
        force: Whether to go on all the same.

    Raises:
        DeviceError: More is needed than is free, and ``force`` is off.
    """
    # What the process holds already is part of the estimate.
    free = psutil.virtual_memory().available + psutil.Process().memory_info().rss
    if needed > free and not force:
        raise DeviceError(
            f"This takes {said}; {gigabytes(free)} GB are free.", hint=f"{hint}, or go on with --force."
        )


def gigabytes(size: int) -> str:
    """A size for people, in GB without the unit."""
    return f"{size / 1e9:.2f}" if size < 10**10 else f"{size / 1e9:.0f}"


def _place(name: str, places: dict[str, int | str]) -> int | str:
    """Where the device map puts a weight: the entry of its innermost module counts."""
    path = name
    while path not in places and path:
        path = path.rpartition(".")[0]
    return places.get(path, "disk")
