"""Where a dictionary came from, and a fingerprint that says which one it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from onesense.sae.large_tensors import row_parts


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a dictionary came from, and what its maker says about it.

    Attributes:
        release: Name of the release, or None for a local one.
        sae_id: Its id within the release.
        path: Folder that it was read from.
        model_name: The model that it was trained on, as its maker spells it.
        prepend_bos: Whether its training text had a BOS.
        context_size: Tokens in a training context.
        fingerprint: SHA-256 over tensors and rule, 64 hex digits; set when the dictionary is built.
        expected_l0: L0 that the maker recorded.
        expected_fvu: Fraction of variance unexplained that the maker recorded.
        sparsity: log10(firing frequency + 1e-10) of every latent, [d_sae].
        extra: Everything else from its configuration.
    """

    release: str | None = None
    sae_id: str | None = None
    path: str | None = None
    model_name: str | None = None
    prepend_bos: bool = True
    context_size: int | None = None
    fingerprint: str = ""
    expected_l0: float | None = None
    expected_fvu: float | None = None
    sparsity: Tensor | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """A name for messages."""
        if self.release is not None:
            return f"{self.release}/{self.sae_id}"
        return self.path or "the dictionary"


def fingerprint(tensors: Mapping[str, Tensor], rule: str) -> str:
    """SHA-256 over tensors (as float32) and rule, 64 hex digits; the same whatever the file format."""
    digest = hashlib.sha256(rule.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        for _, rows in row_parts(tensors[name].detach()):
            values = rows.to(device="cpu", dtype=torch.float32).contiguous()
            digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
