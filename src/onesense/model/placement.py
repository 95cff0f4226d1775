"""Where the weights of a model lie: on one device, or spread over several, over main memory and over disk."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from onesense.config import DEVICE_MAPS, cache_directory
from onesense.errors import ConfigurationError, DeviceError, StorageError

DeviceMap: TypeAlias = str | Mapping[str, int | str]
"""A strategy (``auto``, ``balanced``, ``balanced_low_0``, ``sequential``), or a device for each module by name."""


def check_device_map(device_map: DeviceMap, device: str) -> None:
    """Refuse what transformers could not follow.

    Args:
        device_map: What was asked for.
        device: The device that was asked for beside it.

    Raises:
        ConfigurationError: Unknown strategy, an empty mapping, or a device as well.
        DeviceError: A device of the mapping does not exist here.
    """
    if device != "auto":
        raise ConfigurationError(
            f"A device map spreads the model over devices, and the device `{device}` asks for one.",
            hint="Give --device-map or --device (ONESENSE_DEVICE), not both.",
        )
    if isinstance(device_map, str):
        if device_map not in DEVICE_MAPS:
            raise ConfigurationError(
                f"Unknown device map `{device_map}`.",
                hint=f"Use one of: {', '.join(DEVICE_MAPS)}. For a single device use --device.",
            )
        return
    if not device_map:
        raise ConfigurationError(
            "The device map is empty.", hint="Name a device for each module, or give `auto`."
        )
    for place in set(device_map.values()) - {"cpu", "disk"}:
        _require_device(place)


def _require_device(place: int | str) -> None:
    try:
        device = torch.device(place)
    except RuntimeError as error:
        raise ConfigurationError(
            f"`{place}` in the device map is not a device.",
            hint="Use cpu, disk, or the number of a GPU.",
        ) from error
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if (device.index or 0) >= there.get(device.type, 0):
        raise DeviceError(
            f"The device `{place}` of the device map does not exist on this machine.",
            hint="Use --device-map auto.",
        )


def offload_folder() -> Path:
    """A new folder below the cache for weights that go to disk; those of processes that ended are removed.

    Weights that lie in safetensors in the format they are wanted in are read from where they are, and the folder
    stays empty.

    Raises:
        StorageError: It cannot be made.
    """
    above = cache_directory() / "offload"
    try:
        above.mkdir(parents=True, exist_ok=True)
        for left in above.iterdir():
            owner = left.name.partition("-")[0]
            if owner.isdigit() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=above))
    except OSError as error:
        raise StorageError(
            f"No folder for offloaded weights can be made below {above}: {error.strerror}.",
            hint="Make room there, or set ONESENSE_CACHE to a folder that can be written.",
        ) from error


def remove_with(owner: object, folder: Path) -> None:
    """Remove a folder once its owner is gone, or the process ends."""
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)


def is_offloaded(hf: nn.Module) -> bool:
    """Whether weights are fetched for each forward pass, from main memory for a GPU or from disk."""
    return any(parameter.is_meta for parameter in hf.parameters())


def is_spread(hf: nn.Module) -> bool:
    """Whether the weights lie on more than one device, or some are offloaded."""
    return len({parameter.device for parameter in hf.parameters()}) > 1 or is_offloaded(hf)


def input_device(hf: Any) -> torch.device:
    """Where the embedding computes: the device that tokens go to, and that logits come back to."""
    embedding: Any = hf.get_input_embeddings()
    if not embedding.weight.is_meta:
        device: torch.device = embedding.weight.device
        return device
    place = next(
        hook.execution_device
        for module in (embedding, hf)
        if (hook := getattr(module, "_hf_hook", None)) is not None and hook.execution_device is not None
    )
    return torch.device(place)


def stored_tensors(hf: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The model's state sorted by name, offloaded weights fetched one by one."""
    for name, tensor in sorted(hf.state_dict().items()):
        yield name, fetched(hf, name) if tensor.is_meta else tensor


def fetched(hf: nn.Module, name: str) -> Tensor:
    """One weight by its name in the model, in main memory where it is offloaded."""
    path, _, leaf = name.rpartition(".")
    module = hf.get_submodule(path)
    if not getattr(module, leaf).is_meta:
        tensor: Tensor = getattr(module, leaf)
        return tensor.detach()
    with align_module_device(module, torch.device("cpu")):
        # Once the block ends, the module lets go of it.
        return getattr(module, leaf).detach().clone()  # type: ignore[no-any-return]


def plain_copy(module: nn.Module) -> nn.Module:
    """A copy of a module without children, with its weights, whatever moves the weights of the original about."""
    twin = copy.copy(module)
    if "_hf_hook" in twin.__dict__:
        # What accelerate's hook refers to may be all offloaded weights of the model.
        for name in ("_hf_hook", "_old_forward", "forward"):
            twin.__dict__.pop(name, None)
        twin._parameters = {
            name: None if weight is None else nn.Parameter(fetched(module, name), requires_grad=False)
            for name, weight in module._parameters.items()
        }
    return copy.deepcopy(twin)
