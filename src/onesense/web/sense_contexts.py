"""The contexts of each sense of a unit, as tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onesense.senses.activity import Activity
from onesense.senses.sense_catalog import top_tokens
from onesense.senses.sense_table import SenseTable

_BEFORE, _AFTER = 20, 10

Spell = Callable[[Sequence[int]], list[str]]
"""The text of token ids."""


@dataclass(frozen=True, slots=True)
class SenseToken:
    """A token of a context.

    Attributes:
        text: The token.
        activation: The latent there, where it is among the unit's contexts; else None.
        peak: Whether this is the token that the context is about.
    """

    text: str
    activation: float | None
    peak: bool


@dataclass(frozen=True, slots=True)
class UnitSense:
    """One sense of a unit.

    Attributes:
        share: Share of the unit's activation.
        contexts: How many it has.
        tokens: Those that carry most of it.
        shown: The strongest contexts.
    """

    share: float
    contexts: int
    tokens: list[str]
    shown: list[list[SenseToken]]


def senses_of(
    measured: tuple[Activity, Mapping[str, SenseTable]], unit_set: str, unit: int, spell: Spell, most: int
) -> list[UnitSense]:
    """The senses of a unit, the largest first; none where nobody knows how many it has.

    Args:
        measured: Text and senses, as ``open_measured`` reads them.
        unit_set: The set, one that was measured.
        unit: The unit, one of the set.
        spell: The text of token ids.
        most: Contexts of a sense to show.
    """
    activity, tables = measured
    table = tables[unit_set]
    heights = {
        int(position): float(value)
        for position, value in zip(table.position[unit], table.value[unit], strict=True)
        if position >= 0
    }
    whole = sum(heights.values())
    found = []
    for which in range(int(table.number[unit])):
        sample = table.sense(unit, which)
        found.append(
            UnitSense(
                share=float(sample.value.sum()) / whole if whole else 0.0,
                contexts=len(sample),
                tokens=spell(top_tokens(activity, sample)),
                shown=[_context(activity, int(at), heights, spell) for at in sample.position[:most]],
            )
        )
    return found


def _context(
    activity: Activity, position: int, heights: Mapping[int, float], spell: Spell
) -> list[SenseToken]:
    """The tokens around a position, none of another window."""
    nearby = np.arange(max(0, position - _BEFORE), min(len(activity), position + _AFTER + 1))
    nearby = nearby[activity.window[nearby] == activity.window[position]]
    texts = spell(activity.token[nearby].tolist())
    return [
        SenseToken(text, heights.get(int(at)), int(at) == position)
        for at, text in zip(nearby, texts, strict=True)
    ]
