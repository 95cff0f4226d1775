"""What a run will take of main memory, said before it begins and held to."""

from __future__ import annotations

import psutil

from onesense.errors import DeviceError
from onesense.model.language_model import LanguageModel


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
