"""A text in which each feature has contexts of its own kind, made without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from onesense.model.hook_points import HookPoint
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.senses.activity import Activity, Firings
from onesense.senses.unit_sets import UnitSet, feature_units


class SmallText(NamedTuple):
    activity: Activity
    units: UnitSet


def small_text(
    *, features: int = 130, noise: float = 0.15, documents: int = 60, positions: int = 6000, seed: int = 0
) -> SmallText:
    """At each position one feature fires, in a place of the stream of its own, often together with the next one.

    The token is drawn from three that belong to the feature.
    """
    generator = np.random.default_rng(seed)
    width = 24
    place = generator.standard_normal((features, width))
    directions = torch.nn.functional.normalize(
        torch.from_numpy(generator.standard_normal((features, width))), dim=1
    )
    who = generator.integers(features, size=positions)
    also = (who + 1) % features
    both = generator.random(positions) < 0.4
    stream = place[who] + noise * width**0.5 * generator.standard_normal((positions, width))
    unit = np.concatenate([who, also[both]])
    position = np.concatenate([np.arange(positions), np.flatnonzero(both)]).astype(np.int32)
    value = generator.uniform(0.5, 2, len(unit)).astype(np.float32)
    order = np.lexsort([position, unit])
    pointer = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=features))])
    number = np.arange(positions, dtype=np.int32)
    units = feature_units(dictionary(directions.float()))
    return SmallText(
        Activity(
            [stream.astype(np.float16)],
            token=(3 * who + generator.integers(3, size=positions)).astype(np.int32),
            before=np.full(positions, -1, np.int32),
            document=number * documents // positions,
            window=number // 128,
            offset=number % 128,
            firings={units.name: Firings(pointer, position[order], value[order])},
        ),
        units,
    )


def dictionary(directions: torch.Tensor, layer: int = 0) -> Dictionary:
    """Of these directions."""
    return Dictionary(
        architecture=Architecture.RELU,
        hook_point=HookPoint(layer, "hook_resid_post"),
        W_enc=directions.T.contiguous(),
        b_enc=torch.zeros(len(directions)),
        W_dec=directions,
        b_dec=torch.zeros(directions.shape[1]),
    )


def merged_firings(firings: Firings, pairs: Sequence[tuple[int, int]]) -> Firings:
    """Units that fire where either of two does."""
    found = []
    for pair in pairs:
        position = np.concatenate([firings.of(one)[0] for one in pair])
        value = np.concatenate([firings.of(one)[1] for one in pair])
        position, first = np.unique(position, return_index=True)
        found.append((position, value[first]))
    pointer = np.concatenate([[0], np.cumsum([len(position) for position, _ in found])])
    return Firings(pointer, *(np.concatenate(column) for column in zip(*found, strict=True)))
