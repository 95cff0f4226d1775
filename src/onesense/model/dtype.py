"""Which number format a computation runs in."""

from __future__ import annotations

import torch

from onesense.errors import ConfigurationError, DeviceError

_NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products run on units made for them rather than being emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        cpu = torch.cpu
        return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())
    return False


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn a flag into a dtype.

    Args:
        name: ``float32``, ``bfloat16``, ``float16`` or ``auto`` (bfloat16 where the device has units for it,
            float32 elsewhere: emulated bfloat16 is several times slower than float32).
        device: Where the computation runs.

    Raises:
        ConfigurationError: Unknown name, or float16 on a CPU.
    """
    if name == "auto":
        return torch.bfloat16 if has_native_bfloat16(device) else torch.float32
    if name not in _NAMES:
        raise ConfigurationError(
            f"Unknown dtype `{name}`.", hint=f"Use one of: auto, {', '.join(sorted(_NAMES))}."
        )
    if name == "float16" and device.type == "cpu":
        raise ConfigurationError(
            "float16 overflows in the residual stream and is slow on a CPU.",
            hint="Use --dtype float32, or bfloat16 where the CPU has units for it.",
        )
    return _NAMES[name]


def resolve_device(name: str) -> torch.device:
    """Turn a flag into a device.

    Args:
        name: ``auto`` (CUDA, then MPS, then CPU), or anything that torch accepts.

    Raises:
        DeviceError: The device does not exist on this machine.
        ConfigurationError: The name is not a device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"`{name}` is not a device.", hint="Use auto, cpu, cuda or mps.") from error
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise DeviceError(f"The device `{name}` does not exist on this machine.", hint="Use --device auto.")
    return device
