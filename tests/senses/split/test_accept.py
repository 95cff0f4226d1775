"""What is accepted, and why the rest is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from onesense.senses.split.accept import (
    Candidate,
    HeldOutError,
    Reason,
    accept_by_cross_entropy,
    accept_by_variance,
    exactly_one,
    firings_of,
    total_variance,
)
from onesense.senses.split.children import Children, make_children
from onesense.senses.split.split_text import Part
from senses.split.planted import PARENT, merged_dictionary, planted_text, senses_of


def candidate(parent: int) -> Candidate:
    nothing = torch.zeros(2)
    return Candidate(
        Children(parent, torch.zeros(1, 2), nothing, nothing, torch.zeros(2, 1)), (1.0,), 2.0, 1.0, 1.0
    )


def test_a_split_that_explains_more_is_accepted_and_a_worse_one_is_not() -> None:
    dictionary = merged_dictionary()
    text, which = planted_text(dictionary)
    rows = text.rows(Part.HELD_OUT)
    good = make_children(text, dictionary, 0, senses_of(text, which))
    bad = replace(good, W_dec=-good.W_dec)

    def held_out() -> HeldOutError:
        variance = total_variance(text.inputs[rows])
        row = dictionary.W_dec[[PARENT]]
        return HeldOutError(text.inputs[rows], text.residual[rows], text.latents[rows], row, variance)

    kind = replace(candidate(PARENT), children=good)
    accepted, refused = accept_by_variance([(0, kind)], held_out(), 0.0)
    assert [one.children for one in accepted] == [good]
    assert refused == []
    assert accepted[0].fvu_change < -0.05
    # the change that is told is the change of the dictionary as a whole
    before = text.residual[rows] - text.latents[rows] @ dictionary.W_dec[[PARENT]]
    after = text.residual[rows] - good.latents(text.inputs[rows]) @ good.W_dec
    told = (after.square().sum() - before.square().sum()) / total_variance(text.inputs[rows])
    torch.testing.assert_close(told, torch.tensor(accepted[0].fvu_change), rtol=1e-3, atol=1e-6)

    accepted, refused = accept_by_variance([(0, replace(kind, children=bad))], held_out(), 0.001)
    assert accepted == []
    assert [(one.feature, one.reason) for one in refused] == [(PARENT, Reason.VARIANCE)]


def test_those_that_cost_cross_entropy_are_found_among_many() -> None:
    costs = {3: 0.02, 9: 0.5}
    runs = 0

    def measure(some: Sequence[Candidate]) -> float:
        nonlocal runs
        runs += 1
        return 2.0 + sum(costs.get(one.children.parent, 0.0) for one in some)

    accepted, refused, end = accept_by_cross_entropy(
        [candidate(id_) for id_ in range(16)], measure, 2.0, 0.001
    )
    assert sorted(one.feature for one in refused) == [3, 9]
    assert {one.reason for one in refused} == {Reason.CROSS_ENTROPY}
    assert len(accepted) == 14
    assert end == 2.0
    assert runs < 20
    assert accept_by_cross_entropy([], measure, 2.0, 0.001) == ([], [], 2.0)


def test_firings_by_hand() -> None:
    latents = torch.tensor([[0.0, 2.0], [1.0, 0.0], [3.0, 4.0]])
    found = firings_of(latents, torch.tensor([5, 7, 9]))
    assert found.of(0)[0].tolist() == [7, 9]
    assert found.of(0)[1].tolist() == [1.0, 3.0]
    assert found.of(1)[0].tolist() == [5, 9]
    assert exactly_one(latents, torch.tensor([1.0, 0.0, 1.0])) == 0.5


def test_every_reason_has_a_sentence() -> None:
    assert all(reason.sentence.endswith(".") for reason in Reason)
