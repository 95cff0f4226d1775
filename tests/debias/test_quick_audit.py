"""The quick audit: values of the meters, intervals around them, and the same again."""

from __future__ import annotations

import numpy as np
import pytest

from onesense.debias.controls.calibrate import divergence_of
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.quick_audit import QuickAudit, QuickMeasures
from onesense.debias.tune_measures import TuneMeter
from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.where import Where, Window
from small_recipes import group_of

POINT = "blocks.1.hook_resid_post"
EVERY_FACT = 40


@pytest.fixture(scope="module")
def groups() -> list[EditGroup]:
    return [group_of(POINT, Operation.SCALE, 4.0)]


@pytest.fixture(scope="module")
def audit(tiny_llama: LanguageModel) -> QuickAudit:
    return QuickAudit(tiny_llama, 1, every_fact=EVERY_FACT)


@pytest.fixture(scope="module")
def measured(audit: QuickAudit, groups: list[EditGroup]) -> QuickMeasures:
    return audit.measure(groups)


def test_values_are_those_of_the_meters(
    tiny_llama: LanguageModel, groups: list[EditGroup], measured: QuickMeasures
) -> None:
    whole = TuneMeter(tiny_llama, 1, templates=1, every_fact=EVERY_FACT).measure(groups)
    assert measured.spread.value == pytest.approx(whole.spread, rel=1e-5)
    assert measured.slope.value == pytest.approx(whole.slope, rel=1e-4)
    assert measured.facts.value == pytest.approx(whole.facts, rel=1e-5)
    passages = calibration_requests(tiny_llama, passages=24, tokens=16, source=None)
    assert measured.kl.value == pytest.approx(divergence_of(tiny_llama, passages, groups), rel=1e-3)
    assert measured.kl.value > 1e-3  # the edit does something


def test_intervals_hold_their_values(measured: QuickMeasures) -> None:
    for one in measured:
        assert one.low < one.value < one.high


def test_the_same_seed_gives_the_same_intervals_and_another_does_not(
    tiny_llama: LanguageModel, audit: QuickAudit, groups: list[EditGroup], measured: QuickMeasures
) -> None:
    assert audit.measure(groups) == measured
    other = QuickAudit(tiny_llama, 1, every_fact=EVERY_FACT, seed=1).measure(groups)
    assert other.spread.value == measured.spread.value
    assert other.spread.low != measured.spread.low


def test_nothing_edited_is_unchanged_without_any_doubt(audit: QuickAudit) -> None:
    found = audit.measure([])
    assert np.array(found[:3]) == pytest.approx(np.ones((3, 3)), abs=1e-9)
    assert tuple(found.kl) == (0.0, 0.0, 0.0)


def test_an_edit_after_the_first_block_is_measured_with_the_same_meter(
    tiny_llama: LanguageModel, audit: QuickAudit
) -> None:
    late = [group_of("blocks.2.hook_resid_post", Operation.SCALE, 4.0)]
    own = QuickAudit(tiny_llama, 3, every_fact=EVERY_FACT).measure(late)
    assert np.array(audit.measure(late)) == pytest.approx(np.array(own), rel=1e-3, abs=1e-6)


def test_a_measurement_ends_where_nobody_wants_it(audit: QuickAudit, groups: list[EditGroup]) -> None:
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit.measure(groups, check=check)


def test_what_ordinary_text_cannot_show_is_refused(audit: QuickAudit) -> None:
    last = [group_of(POINT, Operation.SCALE, 4.0, Where(window=Window.PROMPT, last=1))]
    with pytest.raises(ConfigurationError, match="no prompt"):
        audit.measure(last)


def test_sizes_are_told(audit: QuickAudit) -> None:
    assert audit.sizes.passages == 24
    assert audit.sizes.tokens <= 24 * 16
    assert audit.sizes.occupations > 50
