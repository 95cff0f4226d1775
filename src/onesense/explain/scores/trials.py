"""What a judge is shown, and what is true of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onesense.explain.negatives import Negative
from onesense.explain.passages import Passage
from onesense.explain.scores.judge import ShownContext

ACTIVE = "active"
WRONG_MARKS = "wrong_marks"
INTRUDER_CONTEXTS = 5
"""Contexts of one round, the intruder among them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Contexts that a judge sees together.

    Attributes:
        contexts: In the order that they are shown in.
        truth: Whether the feature fires there as marked (in an intruder's trial: which is the intruder).
        kinds: Where each comes from: ``active``, ``wrong_marks``, or the kind of a negative.
    """

    contexts: tuple[ShownContext, ...]
    truth: tuple[bool, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Item:
    passage: Passage
    marks: tuple[bool, ...]
    true: bool
    kind: str


def detection_trial(
    active: Sequence[Passage], negatives: Sequence[Negative], generator: np.random.Generator
) -> Trial:
    """Texts where the feature fires among texts where it does not, nothing marked.

    Args:
        active: Test contexts.
        negatives: Texts where it does not fire.
        generator: Of the order.
    """
    items = [_Item(one, _none(one), True, ACTIVE) for one in active]
    items += [_Item(one.passage, _none(one.passage), False, one.kind) for one in negatives]
    return _shuffled(items, generator)


def fuzz_trial(
    active: Sequence[Passage], negatives: Sequence[Negative], generator: np.random.Generator
) -> Trial:
    """Rightly marked texts among wrongly marked ones, half of these where the feature does fire elsewhere.

    Args:
        active: Test contexts; two thirds are marked rightly, the others wrongly.
        negatives: Texts where the feature does not fire; as many as there are too few wrongly marked ones.
        generator: Of the marks and the order.
    """
    right = math.ceil(2 * len(active) / 3)
    items = [_Item(one, one.marks(), True, ACTIVE) for one in active[:right]]
    for one in active[right:]:
        if (wrong := wrong_marks(one, generator)) is not None:
            items.append(_Item(one, wrong, False, WRONG_MARKS))
    for index, negative in enumerate(negatives[: 2 * right - len(items)]):
        marks = marks_at(negative.passage, active[index % right].marks())
        items.append(_Item(negative.passage, marks, False, negative.kind))
    return _shuffled(items, generator)


def intruder_trials(
    active: Sequence[Passage], negatives: Sequence[Negative], generator: np.random.Generator
) -> list[Trial]:
    """Rounds of four marked contexts and one marked negative, a round for each negative.

    Args:
        active: Test contexts, at least four.
        negatives: One for each round.
        generator: Of the choice and the order.
    """
    trials = []
    for negative in negatives:
        chosen = generator.choice(len(active), INTRUDER_CONTEXTS - 1, replace=False)
        items = [_Item(active[index], active[index].marks(), False, ACTIVE) for index in chosen]
        marks = marks_at(negative.passage, active[int(chosen[0])].marks())
        trials.append(_shuffled([*items, _Item(negative.passage, marks, True, negative.kind)], generator))
    return trials


def wrong_marks(passage: Passage, generator: np.random.Generator) -> tuple[bool, ...] | None:
    """As many marks as are right, where the feature does not fire; None where it fires nearly everywhere.

    The marks keep their distances where they fit, so that their shape tells nothing.
    """
    right = np.flatnonzero(passage.marks())
    silent = (np.array(passage.activations) == 0) & _whole(passage)
    shifts = np.arange(-right[0], len(silent) - right[-1])
    shifts = shifts[silent[right + shifts[:, None]].all(axis=1)]
    if len(shifts):
        return _flags(right + generator.choice(shifts), len(silent))
    free = np.flatnonzero(silent)
    if len(free) < len(right):
        return None
    return _flags(generator.choice(free, len(right), replace=False), len(silent))


def marks_at(passage: Passage, shape: Sequence[bool]) -> tuple[bool, ...]:
    """The shape of another context's marks, put where a negative is hard, as far as it fits."""
    pattern = np.flatnonzero(shape)
    n = len(passage.token_ids)
    if not len(pattern) or n == 0:
        return _flags(np.array([passage.peak]), n)
    # Moved back into the text where it would stand out of it.
    shift = min(passage.peak - int(pattern[0]), n - 1 - int(pattern[-1]))
    places = pattern + max(shift, -int(pattern[0]))
    return _flags(places[places < n], n)


def _whole(passage: Passage) -> NDArray[np.bool_]:
    """Tokens with a text of their own: no later part of a character."""
    return np.array([bool(piece) for piece in passage.pieces])


def _flags(places: NDArray[np.integer], length: int) -> tuple[bool, ...]:
    flags = np.zeros(length, np.bool_)
    flags[places] = True
    return tuple(flags.tolist())


def _none(passage: Passage) -> tuple[bool, ...]:
    return (False,) * len(passage.token_ids)


def _shuffled(items: Sequence[_Item], generator: np.random.Generator) -> Trial:
    ordered = [items[index] for index in generator.permutation(len(items))]
    return Trial(
        tuple(ShownContext(one.passage.token_ids, one.passage.pieces, one.marks) for one in ordered),
        tuple(one.true for one in ordered),
        tuple(one.kind for one in ordered),
    )
