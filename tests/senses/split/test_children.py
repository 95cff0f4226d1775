"""Children of a feature that is two: each fires on its own kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onesense.engine.stages import Silent
from onesense.errors import ConfigurationError, NumericalError
from onesense.senses.split.accept import exactly_one
from onesense.senses.split.children import make_children, regressed_row
from onesense.senses.split.refine import RefineSettings, refine
from onesense.senses.split.split_text import Part
from senses.split.planted import PARENT, merged_dictionary, planted_text, senses_of


def test_each_child_fires_on_its_own_kind() -> None:
    dictionary = merged_dictionary()
    text, which = planted_text(dictionary)
    children = make_children(text, dictionary, 0, senses_of(text, which))
    rows = text.rows(Part.HELD_OUT)
    latents, kind = children.latents(text.inputs[rows]), which[rows.numpy()]
    for child in (0, 1):
        fires = (latents[:, child] > 0).numpy()
        assert fires[kind == child].mean() > 0.98
        assert fires[kind != child].mean() < 0.02
    assert exactly_one(latents, text.latents[rows, 0]) > 0.97
    # the decoder rows are the true features, which the parent's was the mean of
    units = children.W_dec / children.W_dec.norm(dim=1, keepdim=True)
    assert float(units[0, 0]) > 0.98
    assert float(units[1, 1]) > 0.98


def test_children_fire_as_the_parent_did() -> None:
    dictionary = merged_dictionary()
    text, which = planted_text(dictionary)
    children = make_children(text, dictionary, 0, senses_of(text, which))
    rows = np.flatnonzero((which == 0) & (text.latents[:, 0] > 0).numpy())
    found = children.latents(text.inputs[rows])[:, 0]
    assert float(found.mean()) == pytest.approx(float(text.latents[rows, 0].mean()), rel=0.1)


def test_few_contexts_leave_the_row_near_the_parents() -> None:
    row, wanted = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 2.0]])
    near = regressed_row(torch.tensor([2.0]), wanted, row)
    far = regressed_row(torch.full((800,), 2.0), wanted.expand(800, 2), row)
    assert float((near - row).norm()) < 0.2
    torch.testing.assert_close(far, torch.tensor([0.0, 1.0]), atol=0.02, rtol=0)


def test_the_fine_tune_helps_unseen_text_and_repeats_itself() -> None:
    dictionary = merged_dictionary()
    text, which = planted_text(dictionary)
    rows, parent_row = text.rows(Part.HELD_OUT), dictionary.W_dec[[PARENT]]
    start = make_children(text, dictionary, 0, senses_of(text, which))
    settings = RefineSettings(steps=100, batch_size=128)
    (once,), (again,) = (refine([start], text, parent_row, settings, Silent()) for _ in range(2))
    (untouched,) = refine([start], text, parent_row, RefineSettings(steps=0), Silent())

    def error(children):  # type: ignore[no-untyped-def]
        given = children.latents(text.inputs[rows]) @ children.W_dec
        return float((text.residual[rows] - given).square().sum())

    assert error(once) < error(start)
    assert error(untouched) == pytest.approx(error(start), rel=1e-4)
    for name in ("W_enc", "b_enc", "threshold", "W_dec"):
        assert torch.equal(getattr(once, name), getattr(again, name))
    torch.testing.assert_close(once.W_dec.norm(dim=1), parent_row.norm(dim=1).expand(2))
    assert bool((once.threshold >= 0).all())


def test_a_fine_tune_that_diverges_says_so() -> None:
    dictionary = merged_dictionary()
    text, which = planted_text(dictionary)
    start = make_children(text, dictionary, 0, senses_of(text, which))
    settings = RefineSettings(steps=40, learning_rate=1e30)
    with pytest.raises(NumericalError, match="NaN or infinity at step"):
        refine([start], text, dictionary.W_dec[[PARENT]], settings, Silent())


def test_nothing_to_tune_is_nothing() -> None:
    dictionary = merged_dictionary()
    text, _which = planted_text(dictionary)
    assert refine([], text, dictionary.W_dec[[]], RefineSettings(), Silent()) == []


@pytest.mark.parametrize(
    "wrong", [{"steps": -1}, {"batch_size": 0}, {"learning_rate": 0.0}, {"sparsity": -1.0}]
)
def test_bad_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        RefineSettings(**wrong)  # type: ignore[arg-type]
