"""Senses of a parent and of its children on held-out text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from onesense.senses.activity import Firings, Floats
from onesense.senses.judge import Judge
from onesense.senses.partition import Senses, partition
from onesense.senses.sampling import sample_contexts
from onesense.senses.space import SenseSpace, unit_rows
from onesense.senses.split.accept import Candidate, Reason, Refusal, exactly_one, firings_of
from onesense.senses.split.children import Children


def judge_children(
    children: Children,
    shares: tuple[float, ...],
    latents: Tensor,
    parent: tuple[Tensor, Floats],
    rows: Tensor,
    sense: tuple[SenseSpace, Judge],
    *,
    contexts: int,
    one_sense: bool,
    seed: int,
) -> Candidate | Refusal:
    """Count the senses of a parent and of its children on held-out text.

    Args:
        children: The children.
        shares: Of the senses that they were made for.
        latents: Of the children, [rows, children].
        parent: Latents of the parent, [rows], and what it writes, of norm 1, [d_in].
        rows: Positions of the held-out text in the activity.
        sense: Where contexts lie, and who judges them.
        contexts: How many to judge at most.
        one_sense: Whether every child must have one sense; else it is enough that there are fewer than before.
        seed: Of the sample.
    """
    space, judge = sense
    id_ = children.parent
    own = firings_of(parent[0][:, None], rows)
    before = _senses(own, 0, id_, parent[1], space, judge, contexts, seed)
    directions = unit_rows(children.W_dec.numpy())
    firings = firings_of(latents, rows)
    found = [
        _senses(firings, child, id_, directions[child], space, judge, contexts, seed)
        for child in range(len(children))
    ]
    judged = [one for one in found if one is not None]
    if before is None or len(judged) < len(found):
        return Refusal(id_, Reason.TOO_FEW_CONTEXTS)
    mass = latents.double().sum(0).numpy()
    after = float(np.average([one.effective for one in judged], weights=mass))
    if one_sense and any(one.number > 1 for one in judged):
        return Refusal(id_, Reason.SEVERAL_SENSES, after)
    if not after < before.effective:
        return Refusal(id_, Reason.NOT_FEWER_SENSES, after)
    return Candidate(children, shares, before.effective, after, exactly_one(latents, parent[0]))


def _senses(
    firings: Firings,
    unit: int,
    parent: int,
    direction: Floats,
    space: SenseSpace,
    judge: Judge,
    contexts: int,
    seed: int,
) -> Senses | None:
    if not firings.count[unit]:
        return None
    sample = sample_contexts(firings, unit, contexts, seed=seed)
    # The parent would fire at all contexts of its child, and make them alike.
    directions = space.directions.copy()
    directions[parent] = direction
    cosines = replace(space, directions=directions).vectors(sample, direction).cosines()
    return partition(cosines, sample.value, judge)
