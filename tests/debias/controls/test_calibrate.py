"""The strength at a given KL: found where it exists, never above it, whatever the curve."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesense.bias.benchmarks.kl import KlDivergence
from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.bias.suites import SUITES, suite
from onesense.debias.controls.activations import LabelledActivations
from onesense.debias.controls.calibrate import at_divergence, divergence_of, within_budget
from onesense.debias.controls.documents import (
    calibration_requests,
    documents_outside_audits,
    fitting_requests,
)
from onesense.debias.controls.erasures import difference_of_means
from onesense.errors import ConfigurationError, NumericalError
from onesense.model.language_model import LanguageModel

POSITIVE = st.floats(1e-4, 1e3)


class Counted:
    """A curve that counts how often it is asked, and at which strengths."""

    def __init__(self, curve: Callable[[float], float]) -> None:
        self.curve = curve
        self.asked: dict[float, float] = {}

    def __call__(self, strength: float) -> float:
        assert strength > 0
        assert strength not in self.asked
        self.asked[strength] = self.curve(strength)
        return self.asked[strength]


@given(factor=POSITIVE, power=st.floats(0.3, 6), target=POSITIVE, highest=st.floats(0.1, 4))
def test_a_power_law_is_found(factor: float, power: float, target: float, highest: float) -> None:
    curve = Counted(lambda strength: factor * strength**power)
    found = at_divergence(curve, target, highest=highest)
    assert len(curve.asked) <= 12
    assert found.kl == pytest.approx(factor * found.strength**power)
    if factor * highest**power >= 0.95 * target:
        assert found.reached
        assert abs(found.kl - target) <= 0.05 * target * (1 + 1e-9)
    else:
        assert not found.reached
        assert found.strength == highest


@given(
    heights=st.lists(st.floats(0, 10), min_size=1, max_size=6),
    target=st.floats(0.01, 10),
    steps=st.integers(1, 20),
    tolerance=st.floats(0.01, 0.5),
)
def test_no_curve_gives_more_than_the_target(
    heights: list[float], target: float, steps: int, tolerance: float
) -> None:
    """Any broken line from 0, up and down."""
    knots = np.linspace(0, 1, len(heights) + 1)
    curve = Counted(lambda strength: float(np.interp(strength, knots, [0.0, *heights])))
    found = at_divergence(curve, target, steps=steps, tolerance=tolerance)
    assert len(curve.asked) <= steps
    assert found.kl <= target * (1 + tolerance) * (1 + 1e-9)
    assert found.reached == (abs(found.kl - target) <= target * tolerance)
    assert found.kl == (curve.asked[found.strength] if found.strength else 0)
    if heights[-1] < target * (1 - tolerance):
        assert (found.strength, found.reached) == (1.0, False)


@given(
    factor=POSITIVE,
    power=st.floats(0.3, 6),
    target=POSITIVE,
    highest=st.floats(0.1, 4),
    share=st.floats(0.01, 1),
)
def test_a_power_law_is_found_from_a_guess_too(
    factor: float, power: float, target: float, highest: float, share: float
) -> None:
    curve = Counted(lambda strength: factor * strength**power)
    found = at_divergence(curve, target, highest=highest, guess=share * highest)
    assert len(curve.asked) <= 12
    assert next(iter(curve.asked)) == share * highest
    if factor * highest**power >= 0.95 * target:
        assert found.reached
        assert abs(found.kl - target) <= 0.05 * target * (1 + 1e-9)
    else:
        assert (found.strength, found.reached) == (highest, False)


@given(heights=st.lists(st.floats(0, 10), min_size=1, max_size=6), guess=st.floats(0.01, 1))
def test_from_a_guess_no_curve_gives_more_than_the_target(heights: list[float], guess: float) -> None:
    knots = np.linspace(0, 1, len(heights) + 1)
    curve = Counted(lambda strength: float(np.interp(strength, knots, [0.0, *heights])))
    found = at_divergence(curve, 1.0, guess=guess)
    assert len(curve.asked) <= 12
    assert found.kl <= 1.05 * (1 + 1e-9)
    assert found.reached == (abs(found.kl - 1) <= 0.05)
    assert found.kl == (curve.asked[found.strength] if found.strength else 0)


@given(power=st.floats(0.5, 4), strongest=st.floats(0.3, 3))
def test_a_budget_is_used_up_and_not_overdrawn(power: float, strongest: float) -> None:
    """The whole budget is used at some strength, which the highest may not reach."""
    found = within_budget(lambda strength: (strength / strongest) ** power, 1.0, highest=2.0, guess=1.0)
    assert found.kl <= 1 + 1e-9
    assert found.reached == (found.kl >= 0.95 - 1e-9)
    if not found.reached:
        assert found.strength == 2.0


@pytest.mark.parametrize("near", [0.8, 1.2])
def test_a_good_guess_saves_measurements(near: float) -> None:
    def curve(strength: float) -> float:
        return 0.01 * strength**2.2

    plain, guessed = Counted(curve), Counted(curve)
    target = curve(near)
    assert at_divergence(plain, target, highest=2.0).reached
    assert at_divergence(guessed, target, highest=2.0, guess=1.0).reached
    assert len(guessed.asked) == 2 < len(plain.asked)


@given(at=st.floats(0.001, 0.999), target=st.floats(0.1, 0.9))
def test_a_jump_over_the_target_ends_below_it(at: float, target: float) -> None:
    found = at_divergence(lambda strength: 2.0 if strength >= at else 0.01 * strength, target)
    assert not found.reached
    assert found.strength < at


def test_a_broken_line_is_followed_to_the_target() -> None:
    knots, heights = [0, 0.2, 0.5, 0.8, 1.0], [0, 0.5, 0.1, 0.4, 3.0]
    curve = Counted(lambda strength: float(np.interp(strength, knots, heights)))
    assert at_divergence(curve, 1.0, steps=30).reached


def test_infinite_kl_is_above_every_target() -> None:
    found = at_divergence(lambda strength: math.inf if strength > 0.3 else strength, 0.2)
    assert found.reached
    assert found.kl == pytest.approx(0.2, rel=0.05)


def test_nan_is_told() -> None:
    with pytest.raises(NumericalError, match="strength 1"):
        at_divergence(lambda _: math.nan, 0.1)


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        (0.0, {}),
        (math.nan, {}),
        (0.1, {"highest": 0.0}),
        (0.1, {"tolerance": 1.0}),
        (0.1, {"steps": 0}),
        (0.1, {"guess": 1.5}),
        (0.1, {"guess": 0.0}),
    ],
)
def test_bad_arguments_are_refused(target: float, settings: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="target|highest|tolerance|steps|guess"):
        at_divergence(lambda strength: strength, target, **settings)  # type: ignore[arg-type]


def test_the_kl_of_an_erasure_is_brought_to_a_target(
    tiny_llama: LanguageModel, data: LabelledActivations
) -> None:
    requests = [Request("The nurse said that she was tired."), Request("x" * 300)]
    erasure = difference_of_means(data)

    def measure(strength: float) -> float:
        return divergence_of(tiny_llama, requests, [erasure.group(strength)])

    most = measure(1.0)
    found = at_divergence(measure, most / 10)
    assert found.reached
    assert 0 < found.strength < 1
    by_hand = ModelScorer(tiny_llama, [None, [erasure.group(found.strength)]]).divergence(requests[:1])[1][0]
    assert found.kl == pytest.approx(by_hand.kl / by_hand.positions)
    assert divergence_of(tiny_llama, requests, [erasure.group(0.0)]) == 0


def test_texts_that_do_not_fit_are_told(tiny_llama: LanguageModel, data: LabelledActivations) -> None:
    with pytest.raises(ConfigurationError, match="context"):
        divergence_of(tiny_llama, [Request("x" * 300)], [difference_of_means(data).group()])


def test_no_audit_is_scored_on_the_texts(tiny_llama: LanguageModel) -> None:
    scorer = ModelScorer(tiny_llama)
    benchmarks = [one for name in SUITES for one in suite(name) if isinstance(one, KlDivergence)]
    taken = {item.id for one in benchmarks for item in one.items(scorer)}
    left = documents_outside_audits(tiny_llama)
    assert len(taken) >= 60
    assert not taken & {f"document {document.index}" for document in left}
    requests = calibration_requests(tiny_llama, passages=9, tokens=20)
    assert len({request.ids for request in requests}) == 9
    assert all(request.ids is not None and len(request.ids) == 20 for request in requests)
    texts = {document.text for document in left}
    assert all(any(text.startswith(request.text) for text in texts) for request in requests)
    audited = {item.requests[0].text for one in benchmarks for item in one.items(scorer)}
    assert not any(text.startswith(request.text) for text in audited for request in requests)


def test_a_text_that_the_audit_takes_whole_is_refused(tiny_llama: LanguageModel, tmp_path: object) -> None:
    path = f"{tmp_path}/short.txt"
    with open(path, "w") as file:
        file.write("word " * 200)
    with pytest.raises(ConfigurationError, match="none is left"):
        calibration_requests(tiny_llama, source=path)
    with pytest.raises(ConfigurationError, match="too short"):
        calibration_requests(tiny_llama, tokens=0)


def test_what_is_tuned_on_is_not_what_kl_is_measured_on(demo_model: LanguageModel) -> None:
    measured = {one.text[:80] for one in calibration_requests(demo_model, passages=10_000, tokens=48)}
    fitted = {one.text[:80] for one in fitting_requests(demo_model, passages=10_000, tokens=48)}
    audited = {
        item.requests[0].text[:80]
        for one in suite("standard")
        if isinstance(one, KlDivergence)
        for item in one.items(ModelScorer(demo_model))
    }
    assert len(measured) > 200
    assert len(fitted) > 200
    assert not measured & fitted
    assert not (measured | fitted) & audited
