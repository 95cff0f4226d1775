"""A model by its address: how another process gets the one that this process has."""

from __future__ import annotations

from functools import lru_cache

import torch

from onesense.errors import IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model


@lru_cache(maxsize=1)
def reopen_model(
    name: str,
    revision: str | None,
    dtype: str,
    device: str,
    fingerprint: str,
    device_map: str | tuple[tuple[str, int | str], ...] | None = None,
) -> LanguageModel:
    """Load the model that another process has, and keep it: who asks again gets the same.

    Args:
        name: What it was loaded by; a folder or file by its whole path.
        revision: Commit or tag on the hub.
        dtype: Number format that it is wanted in.
        device: Kind of device that it is wanted on.
        fingerprint: Of the weights that it must have.
        device_map: How it is to be spread over the devices there; a mapping as its items.

    Raises:
        IncompatibleError: Other weights lie at that address here.
        OnesenseError: See ``load_model``.
    """
    placed = dict(device_map) if isinstance(device_map, tuple) else device_map
    loaded = load_model(name, dtype="float32", device=device, device_map=placed, revision=revision)
    wanted: torch.dtype = getattr(torch, dtype)
    # What was loaded in a narrow format has the fingerprint of its narrow weights.
    if fingerprint not in (loaded.fingerprint, loaded.fingerprint_as(wanted)):
        raise IncompatibleError(
            f"The model `{name}` has other weights on this machine than where the work was planned.",
            hint="Put the same files at the same place on every machine, or give the revision.",
        )
    model = loaded.copy_as(wanted)
    model.__dict__["fingerprint"] = fingerprint
    return model
