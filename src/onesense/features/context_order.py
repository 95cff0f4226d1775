"""The order of kept contexts: what makes the bytes of a file depend on its content alone."""

from __future__ import annotations

from typing import Any

from onesense.features.compiled import compiled

_EMPTY = -1  # as in context_kernel


@compiled
def _before(slots: Any, feature: Any, left: Any, right: Any) -> Any:
    """Whether one slot of a table comes before another: by priority in a sample, else by activation."""
    keys = slots.key
    if keys[feature, left] < 0 or keys[feature, right] < 0:
        return keys[feature, right] < 0 <= keys[feature, left]
    if slots.priority.shape[1] > 0:
        lower, higher = slots.priority[feature, left], slots.priority[feature, right]
    else:
        lower, higher = slots.value[feature, right], slots.value[feature, left]
    return lower < higher or (lower == higher and keys[feature, left] < keys[feature, right])


@compiled
def _exchange(array: Any, feature: Any, left: Any, right: Any) -> None:
    if array.shape[1] > 0:
        array[feature, left], array[feature, right] = array[feature, right], array[feature, left]


@compiled
def _exchange_rows(array: Any, feature: Any, left: Any, right: Any) -> None:
    if array.shape[1] > 0:
        for index in range(array.shape[2]):
            first, second = array[feature, left, index], array[feature, right, index]
            array[feature, left, index], array[feature, right, index] = second, first


@compiled
def _clear(slots: Any, feature: Any, slot: Any) -> None:
    """Wipe what a context that has moved away left in a free slot."""
    slots.value[feature, slot] = 0
    slots.peak[feature, slot] = 0
    if slots.priority.shape[1] > 0:
        slots.priority[feature, slot] = 0
    if slots.window.shape[1] > 0:
        slots.window[feature, slot] = 0
    for index in range(slots.activations.shape[2]):
        slots.activations[feature, slot, index] = 0
        if slots.ids.shape[1] > 0:
            slots.ids[feature, slot, index] = 0


@compiled
def arrange(slots: Any) -> None:
    """Sort every table in place (see ``_before``), free slots last, so that its bytes depend on its content alone.

    Selection sort: few exchanges, which cost more than comparisons.
    """
    n_features, n_tables = slots.worst.shape
    n_slots = slots.key.shape[1] // n_tables
    for feature in range(n_features):
        for table in range(n_tables):
            first = table * n_slots
            last = first + n_slots
            for slot in range(first, last - 1):
                best = slot
                for other in range(slot + 1, last):
                    if _before(slots, feature, other, best):
                        best = other
                if best != slot:
                    _exchange(slots.value, feature, slot, best)
                    _exchange(slots.key, feature, slot, best)
                    _exchange(slots.priority, feature, slot, best)
                    _exchange(slots.peak, feature, slot, best)
                    _exchange(slots.window, feature, slot, best)
                    _exchange_rows(slots.activations, feature, slot, best)
                    _exchange_rows(slots.ids, feature, slot, best)
            full = slots.key[feature, last - 1] >= 0
            slots.worst[feature, table] = last - 1 if full else _EMPTY
            for slot in range(first, last):
                if slots.key[feature, slot] < 0:
                    _clear(slots, feature, slot)
