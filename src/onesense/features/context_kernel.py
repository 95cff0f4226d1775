"""The compiled heart of the contexts pass: what one firing changes in the running statistics of its feature.

Firings come grouped by feature and, within a feature, in the order of the text. Most of them change only
sums: a full table is left alone unless the firing beats its worst entry, and that is one comparison.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onesense.features.compiled import compiled

# The constants live beside the code that they are compiled into: numba renews its cache by this file's date.
LOWEST_OCTAVE = -12
"""Smaller activations (below 2^-12) are counted in the first octave."""

N_OCTAVES = 32
"""Larger activations (2^20 and above) are counted in the last octave."""

BINS_PER_OCTAVE = 4

NO_OCTAVE = -(2**15)
"""Marks a feature that has not fired yet."""

EMPTY = -1
"""Key of an empty slot; ``worst`` of a table that is not full."""

_POSITION_BITS = 32
_POSITION_MASK = 2**_POSITION_BITS - 1
_EXPONENT_SHIFT = 23
_EXPONENT_BIAS = 127
_SUB_OCTAVE_SHIFT = 21  # exponent and the two leading bits of the mantissa: four bins an octave

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Moments(NamedTuple):
    """Running statistics, one row a feature."""

    fired: NDArray[np.int64]  # [d_sae]
    mean: NDArray[np.float64]  # [d_sae]
    m2: NDArray[np.float64]  # [d_sae] sum of squared deviations from the mean
    maximum: NDArray[np.float32]  # [d_sae]
    histogram: NDArray[np.int64]  # [d_sae, N_BINS]


class Slots(NamedTuple):
    """Kept contexts, ``n`` a feature. Arrays that an accumulator does not need have no columns."""

    value: NDArray[np.float32]  # [d_sae, n] activation at the peak
    key: NDArray[np.int64]  # [d_sae, n] document * 2^32 + position
    priority: NDArray[np.uint64]  # [d_sae, n] of the sample; smaller stays
    peak: NDArray[np.uint16]  # [d_sae, n] index of the peak among the context's tokens
    window: NDArray[np.int32]  # [d_sae, n] window of the shard that it was cut from
    activations: NDArray[np.uint16]  # [d_sae, n, width] float16 bits
    ids: NDArray[Any]  # [d_sae, n, width]
    worst: NDArray[np.int32]  # [d_sae, tables] slot to be replaced next in a table, EMPTY while one is free


class Firings(NamedTuple):
    """Activations above zero, grouped by feature, in the order of the text within each."""

    pointer: NDArray[np.int64]  # [d_sae + 1] where each feature's firings begin
    value: NDArray[np.float32]  # [n]
    bits: NDArray[np.uint32]  # [n] the same, as bits
    half: NDArray[np.uint16]  # [n] the same, as float16 bits
    window: NDArray[np.int32]  # [n]
    position: NDArray[np.int32]  # [n] within the window


class WindowTable(NamedTuple):
    """The windows of one shard."""

    document: NDArray[np.int64]  # [n]
    start: NDArray[np.int64]  # [n] offset of the first token within the document
    length: NDArray[np.int64]  # [n]
    offset: NDArray[np.int64]  # [n] where its tokens begin in ``tokens``
    tokens: NDArray[Any]  # all tokens of the shard, one window after another


class Kept(NamedTuple):
    """Contexts that a shard kept: ``Slots`` as they are written to a file."""

    value: NDArray[np.float32]  # [d_sae, n]
    key: NDArray[np.int64]  # [d_sae, n]
    peak: NDArray[np.uint16]  # [d_sae, n]
    window: NDArray[np.int32]  # [d_sae, n]
    activations: NDArray[np.uint16]  # [d_sae, n, width]


@compiled
def _mix(word: Any) -> Any:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    word = (word ^ (word >> np.uint64(30))) * _MIX_1
    word = (word ^ (word >> np.uint64(27))) * _MIX_2
    return word ^ (word >> np.uint64(31))


def feature_seed(seed: int, first: int) -> int:
    """The seed with which feature 0 of a part draws what feature ``first`` draws with ``seed``."""
    return (seed + first * int(_GOLDEN)) % 2**64


@compiled
def firing_priority(seed: Any, feature: Any, key: Any) -> Any:
    """A uniform 64-bit number for one firing, the same whoever computes it."""
    word = _mix(np.uint64(seed) + (np.uint64(feature) + np.uint64(1)) * _GOLDEN)
    return _mix(word ^ _mix(np.uint64(key) + _GOLDEN))


@compiled
def _octave(bits: Any) -> Any:
    octave = np.int64(bits >> np.uint32(_EXPONENT_SHIFT)) - _EXPONENT_BIAS
    return min(max(octave, LOWEST_OCTAVE), LOWEST_OCTAVE + N_OCTAVES - 1)


@compiled
def _bin(bits: Any) -> Any:
    lowest = (LOWEST_OCTAVE + _EXPONENT_BIAS) * BINS_PER_OCTAVE
    index = np.int64(bits >> np.uint32(_SUB_OCTAVE_SHIFT)) - lowest
    return min(max(index, 0), N_OCTAVES * BINS_PER_OCTAVE - 1)


@compiled
def _choose_top(values: Any, keys: Any, worst_slot: Any, value: Any, key: Any) -> Any:
    """The slot that a firing takes among the strongest, at most one a document; EMPTY where it stays out."""
    worst = worst_slot[0]
    if worst >= 0 and (value < values[worst] or (value == values[worst] and key > keys[worst])):
        return EMPTY
    document = key >> _POSITION_BITS
    chosen = worst
    for slot in range(len(keys)):
        if keys[slot] < 0:
            chosen = slot
            break
        if keys[slot] >> _POSITION_BITS == document:
            if value < values[slot] or (value == values[slot] and key > keys[slot]):
                return EMPTY
            chosen = slot
            break
    values[chosen], keys[chosen] = value, key
    if keys[len(keys) - 1] >= 0:
        worst = 0
        for slot in range(1, len(keys)):
            lower = values[slot] < values[worst]
            if lower or (values[slot] == values[worst] and keys[slot] > keys[worst]):
                worst = slot
        worst_slot[0] = worst
    return chosen


@compiled
def _choose_sample(slots: Any, feature: Any, band: Any, value: Any, key: Any, priority: Any) -> Any:
    """The slot that a firing takes in the sample of its band; EMPTY where it stays out."""
    n_slots = slots.key.shape[1] // slots.worst.shape[1]
    first = band * n_slots
    worst = slots.worst[feature, band]
    if worst >= 0:
        highest = slots.priority[feature, worst]
        if priority > highest or (priority == highest and key > slots.key[feature, worst]):
            return EMPTY
    chosen = worst
    if worst < 0:
        chosen = first
        while slots.key[feature, chosen] >= 0:
            chosen += 1
    slots.value[feature, chosen] = value
    slots.key[feature, chosen], slots.priority[feature, chosen] = key, priority
    if slots.key[feature, first + n_slots - 1] >= 0:
        worst = first
        highest = slots.priority[feature, first]
        for slot in range(first + 1, first + n_slots):
            other = slots.priority[feature, slot]
            if other > highest or (other == highest and slots.key[feature, slot] > slots.key[feature, worst]):
                worst, highest = slot, other
        slots.worst[feature, band] = worst
    return chosen


@compiled
def _band(octave: Any, top: Any, n_bands: Any) -> Any:
    """Where a band lives: octaves take turns in the first tables, the last table is for all the rest."""
    if octave > top - (n_bands - 1):
        return (octave - LOWEST_OCTAVE) % (n_bands - 1)
    return n_bands - 1


@compiled
def _raise_top(slots: Any, entries: Any, top_octave: Any, feature: Any, octave: Any) -> Any:
    """Make room for a stronger octave: the octaves that fall out of the bands join the rest.

    ``entries`` says of which slots the tokens are still to be cut (see ``accumulate``): that moves too.
    """
    top = top_octave[feature]
    top_octave[feature] = octave
    if top == NO_OCTAVE:
        return
    n_bands = slots.worst.shape[1]
    n_slots = slots.key.shape[1] // n_bands
    lowest = max(top - (n_bands - 2), LOWEST_OCTAVE)
    for leaving in range(lowest, min(top, octave - (n_bands - 1)) + 1):
        band = (leaving - LOWEST_OCTAVE) % (n_bands - 1)
        for source in range(band * n_slots, (band + 1) * n_slots):
            key = slots.key[feature, source]
            if key < 0:
                break
            value, priority = slots.value[feature, source], slots.priority[feature, source]
            target = _choose_sample(slots, feature, n_bands - 1, value, key, priority)
            if target >= 0:
                entries[target] = entries[source]
                slots.peak[feature, target] = slots.peak[feature, source]
                slots.activations[feature, target] = slots.activations[feature, source]
                if slots.window.shape[1] > 0:
                    slots.window[feature, target] = slots.window[feature, source]
                if slots.ids.shape[1] > 0:
                    slots.ids[feature, target] = slots.ids[feature, source]
            slots.key[feature, source], entries[source] = EMPTY, EMPTY
        slots.worst[feature, band] = EMPTY


@compiled
def _cut(slots: Any, entries: Any, feature: Any, firings: Any, table: Any) -> None:
    """Fill the slots that new firings took with the feature's activations around them, its neighbours."""
    width = slots.activations.shape[2]
    begin, end = firings.pointer[feature], firings.pointer[feature + 1]
    for slot in range(len(entries)):
        entry = entries[slot]
        if entry < 0:
            continue
        entries[slot] = EMPTY
        window, position = firings.window[entry], np.int64(firings.position[entry])
        first = max(min(position - (width - 1 - width // 4), table.length[window] - width), 0)
        slots.peak[feature, slot] = position - first
        slots.window[feature, slot] = window
        for index in range(width):
            slots.activations[feature, slot, index] = 0
        near = entry
        while near >= begin and firings.window[near] == window and firings.position[near] >= first:
            slots.activations[feature, slot, firings.position[near] - first] = firings.half[near]
            near -= 1
        near = entry + 1
        while near < end and firings.window[near] == window and firings.position[near] < first + width:
            slots.activations[feature, slot, firings.position[near] - first] = firings.half[near]
            near += 1


@compiled
def _add_moments(moments: Any, feature: Any, values: Any, bits: Any) -> None:
    """Welford (1962), one firing after another: exact to rounding however large the mean."""
    count, mean, m2 = moments.fired[feature], moments.mean[feature], moments.m2[feature]
    maximum, histogram = moments.maximum[feature], moments.histogram[feature]
    for entry in range(len(values)):
        value = np.float64(values[entry])
        count += 1
        deviation = value - mean
        mean += deviation / count
        m2 += deviation * (value - mean)
        maximum = max(maximum, values[entry])
        histogram[_bin(bits[entry])] += 1
    moments.fired[feature], moments.mean[feature], moments.m2[feature] = count, mean, m2
    moments.maximum[feature] = maximum


@compiled
def accumulate(
    moments: Any, top: Any, sample: Any, top_octave: Any, firings: Any, table: Any, seed: Any
) -> None:
    """Take a group of firings into the statistics of their features.

    Args:
        moments: ``Moments``, changed in place.
        top: ``Slots`` with one table a feature, changed in place.
        sample: ``Slots`` with one table a band, changed in place.
        top_octave: Octave of each feature's largest activation, [d_sae], changed in place.
        firings: ``Firings``, holding whole windows.
        table: ``WindowTable``.
        seed: Seed of the sample.
    """
    n_bands = sample.worst.shape[1]
    # Firings that took a slot: most lose it again to a later one, so tokens are cut once all have been seen.
    top_entries, sample_entries = np.full(top.key.shape[1], EMPTY), np.full(sample.key.shape[1], EMPTY)
    for feature in range(len(top_octave)):
        first, last = firings.pointer[feature], firings.pointer[feature + 1]
        if first == last:
            continue
        _add_moments(moments, feature, firings.value[first:last], firings.bits[first:last])
        # Views are made once a feature: making one costs more than all that most firings need.
        top_value, top_key, top_worst = top.value[feature], top.key[feature], top.worst[feature]
        priorities, sample_worst = sample.priority[feature], sample.worst[feature]
        strongest = top_octave[feature]
        for entry in range(first, last):
            value, window = firings.value[entry], firings.window[entry]
            position = table.start[window] + np.int64(firings.position[entry])
            key = (table.document[window] << _POSITION_BITS) | position
            worst = top_worst[0]
            if worst < 0 or value > top_value[worst] or (value == top_value[worst] and key < top_key[worst]):
                slot = _choose_top(top_value, top_key, top_worst, value, key)
                if slot >= 0:
                    top_entries[slot] = entry
            octave = _octave(firings.bits[entry])
            if octave > strongest:
                _raise_top(sample, sample_entries, top_octave, feature, octave)
                strongest = octave
            band = _band(octave, strongest, n_bands)
            priority = firing_priority(seed, feature, key)
            worst = sample_worst[band]
            if worst < 0 or priority <= priorities[worst]:
                slot = _choose_sample(sample, feature, band, value, key, priority)
                if slot >= 0:
                    sample_entries[slot] = entry
        _cut(top, top_entries, feature, firings, table)
        _cut(sample, sample_entries, feature, firings, table)


@compiled
def _copy(slots: Any, feature: Any, slot: Any, kept: Any, entry: Any, table: Any, padding: Any) -> None:
    slots.peak[feature, slot] = kept.peak[feature, entry]
    window = kept.window[feature, entry]
    position = (kept.key[feature, entry] & _POSITION_MASK) - table.start[window]
    first = position - np.int64(kept.peak[feature, entry])
    for index in range(slots.ids.shape[2]):
        slots.activations[feature, slot, index] = kept.activations[feature, entry, index]
        if first + index < table.length[window]:
            slots.ids[feature, slot, index] = table.tokens[table.offset[window] + first + index]
        else:
            slots.ids[feature, slot, index] = padding


@compiled
def absorb_top(slots: Any, kept: Any, table: Any, padding: Any) -> None:
    """Merge the strongest contexts of a shard; arguments as in ``absorb_sample``."""
    n_features, n_slots = kept.key.shape
    for feature in range(n_features):
        for entry in range(n_slots):
            if kept.key[feature, entry] >= 0:
                value, key = kept.value[feature, entry], kept.key[feature, entry]
                slot = _choose_top(slots.value[feature], slots.key[feature], slots.worst[feature], value, key)
                if slot >= 0:
                    _copy(slots, feature, slot, kept, entry, table, padding)


@compiled
def absorb_sample(
    slots: Any, top_octave: Any, maximum_bits: Any, kept: Any, table: Any, padding: Any, seed: Any
) -> None:
    """Merge the sample of a shard.

    Args:
        slots: ``Slots`` with token ids, changed in place.
        top_octave: [d_sae], changed in place.
        maximum_bits: Bits of each feature's largest activation in the shard, [d_sae]; 0 where it never fired.
        kept: ``Kept`` of the shard.
        table: ``WindowTable`` of the shard.
        padding: The id that marks places beyond the window's end.
        seed: Seed of the sample.
    """
    n_bands = slots.worst.shape[1]
    bits = kept.value.view(np.uint32)
    n_features, n_slots = kept.key.shape
    uncut = np.full(n_slots, EMPTY)
    for feature in range(n_features):
        if maximum_bits[feature] > 0 and _octave(maximum_bits[feature]) > top_octave[feature]:
            _raise_top(slots, uncut, top_octave, feature, _octave(maximum_bits[feature]))
        for entry in range(n_slots):
            key = kept.key[feature, entry]
            if key >= 0:
                band = _band(_octave(bits[feature, entry]), top_octave[feature], n_bands)
                priority = firing_priority(seed, feature, key)
                slot = _choose_sample(slots, feature, band, kept.value[feature, entry], key, priority)
                if slot >= 0:
                    _copy(slots, feature, slot, kept, entry, table, padding)
