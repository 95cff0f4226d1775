"""A dictionary by its address: how another process gets the one that this process has."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from onesense.errors import IncompatibleError
from onesense.sae.dictionary import Dictionary
from onesense.sae.load import load_dictionary, loaded_from
from onesense.sae.origin import Origin

Address = tuple[str | None, str | None, str | None]
"""Release, id within it, folder."""


def address_of(dictionary: Dictionary) -> Address | None:
    """Where a dictionary can be loaded from again; None for one that was made or changed in memory."""
    address = _address(dictionary.origin)
    return address if loaded_from(*address) == dictionary.origin.fingerprint else None


@lru_cache(maxsize=8)
def reopen_dictionary(address: Address, dtype: str, device: str, fingerprint: str) -> Dictionary:
    """Load the dictionary that another process has, and keep it: who asks again gets the same.

    Args:
        address: Release, id within it, folder.
        dtype: Number format that it is wanted in.
        device: Kind of device that it is wanted on.
        fingerprint: Of the dictionary that it must be.

    Raises:
        IncompatibleError: Another dictionary lies there on this machine.
        OnesenseError: See ``load_dictionary``.
    """
    release, sae_id, path = address
    loaded = load_dictionary(release=release, sae_id=sae_id, path=path, device=device, dtype=dtype)
    if loaded.origin.fingerprint != fingerprint:
        raise IncompatibleError(
            f"The dictionary {loaded.origin.label} is another one on this machine than where the work was planned.",
            hint="Put the same files at the same place on every machine.",
        )
    return loaded


def _address(origin: Origin) -> Address:
    path = None if origin.path is None or origin.release is not None else str(Path(origin.path).resolve())
    return origin.release, origin.sae_id, path
