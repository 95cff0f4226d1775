"""A dictionary with some features replaced by their children."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.senses.split.children import Children

# What the maker recorded of the dictionary as it was.
_OUTDATED = ("l0", "num_dead_features")


def with_thresholds(dictionary: Dictionary) -> Dictionary:
    """The same function as a jumprelu dictionary: a relu one is one with thresholds of 0."""
    if dictionary.architecture is Architecture.JUMPRELU:
        return dictionary
    return replace(
        dictionary,
        architecture=Architecture.JUMPRELU,
        threshold=torch.zeros_like(dictionary.b_enc),
        origin=replace(dictionary.origin, fingerprint=""),
    )


def children_ids(dictionary: Dictionary, families: Sequence[Children]) -> dict[int, tuple[int, ...]]:
    """Ids of the children of each parent: the first takes its place, the others come behind all features."""
    ids, behind = {}, dictionary.d_sae
    for one in families:
        ids[one.parent] = (one.parent, *range(behind, behind + len(one) - 1))
        behind += len(one) - 1
    return ids


def with_children(dictionary: Dictionary, families: Sequence[Children]) -> Dictionary:
    """The dictionary with families in the place of their parents; all other features stay, bit for bit.

    Args:
        dictionary: A jumprelu one.
        families: Children of different parents.
    """
    new = {name: tensor.clone() for name, tensor in dictionary.tensors().items()}
    behind: dict[str, list[Tensor]] = {name: [] for name in ("W_enc", "b_enc", "threshold", "W_dec")}
    for one in families:
        for name, parts in behind.items():
            own: Tensor = getattr(one, name)
            if name == "W_enc":
                new[name][:, one.parent] = own[:, 0]
                parts.append(own[:, 1:])
            else:
                new[name][one.parent] = own[0]
                parts.append(own[1:])
    for name, parts in behind.items():
        new[name] = torch.cat([new[name], *parts], dim=1 if name == "W_enc" else 0)
    extra = {key: value for key, value in dictionary.origin.extra.items() if key not in _OUTDATED}
    origin = replace(
        dictionary.origin,
        release=None,
        sae_id=None,
        path=None,
        fingerprint="",
        expected_l0=None,
        expected_fvu=None,
        sparsity=None,
        extra=extra,
    )
    return replace(dictionary, origin=origin, **new)  # type: ignore[arg-type]
