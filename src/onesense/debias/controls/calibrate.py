"""Controls at equal cost: the strength at which a control's KL to the base model is that of the recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.errors import ConfigurationError, NumericalError
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import Edits

# KL of a small change grows with its square: the first guess of how it depends on the strength.
_QUADRATIC = 2.0
_STEEPEST = 20.0
_MOST_UNUSED = 0.05


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A strength and what it costs.

    Attributes:
        strength: The strength.
        kl: KL at this strength, as it was measured; 0 for strength 0.
        reached: Whether that is the target, within the tolerance.
    """

    strength: float
    kl: float
    reached: bool


@dataclass(frozen=True, slots=True)
class _Point:
    strength: float
    kl: float


def divergence_of(model: LanguageModel, requests: Sequence[Request], edits: Edits) -> float:
    """KL(base || edited) in nats per token, over all positions of some texts.

    Args:
        model: The model.
        requests: The texts; ``calibration_requests`` gives those that no audit is scored on.
        edits: The edits.

    Raises:
        ConfigurationError: No text fits the model's context.
        NumericalError: The edited model's logits are NaN.
    """
    found = [
        one for one in ModelScorer(model, [None, edits]).divergence(requests)[1] if not math.isnan(one.kl)
    ]
    positions = sum(one.positions for one in found)
    if positions == 0:
        raise ConfigurationError(
            f"None of {len(requests)} texts fits the context of `{model.name}`.", hint="Give shorter texts."
        )
    return sum(one.kl for one in found) / positions


def at_divergence(
    measure: Callable[[float], float],
    target: float,
    *,
    highest: float = 1.0,
    guess: float | None = None,
    tolerance: float = 0.05,
    steps: int = 12,
) -> Calibrated:
    """The strength at which KL equals a target.

    KL need not grow with the strength everywhere; only that it is 0 at strength 0 and has no jumps is used,
    and where it has one, the answer is a strength below it. Where several strengths have the target's KL, the
    answer is one of them.

    Args:
        measure: KL at a strength above 0. For several targets, one that remembers (``functools.cache``).
        target: The KL wanted, in the unit of ``measure``.
        highest: The strongest that is tried.
        guess: Where to measure first, no higher than that; None for the highest. A good one saves measurements.
        tolerance: How far KL may be off, as a share of the target.
        steps: How often to measure, at most.

    Returns:
        The strength found. Where even the highest stays below the target, the highest, not reached. Where the
        steps do not suffice, of the strengths measured the one that comes closest from below, not reached.
        Never one whose KL is above the target by more than the tolerance.

    Raises:
        ConfigurationError: An argument is out of range.
        NumericalError: KL is NaN.
    """
    _check(target, highest, guess, tolerance, steps)
    low = best = _Point(0.0, 0.0)
    high: _Point | None = None  # the weakest that is known to cost too much
    first = highest if guess is None else guess
    before = last = _Point(first, _measured(measure, first))
    for turn in range(1, steps + 1):
        if abs(last.kl - target) <= target * tolerance:
            return Calibrated(last.strength, last.kl, reached=True)
        if last.kl > target:
            high = last
        elif last.strength == highest:
            return Calibrated(last.strength, last.kl, reached=False)
        else:
            low, best = last, max(best, last, key=lambda point: point.kl)
        if high is None:
            strength = highest if turn > 1 else min(highest, _along(before, last, target))
        else:
            strength = _between(low, high, before, last, target, halve=turn % 3 == 0)
        inside = low.strength < strength and (high is None or strength < high.strength)
        if turn == steps or not inside:
            break  # the last step, or no number is left in between
        before, last = last, _Point(strength, _measured(measure, strength))
    return Calibrated(best.strength, best.kl, reached=False)


def within_budget(
    measure: Callable[[float], float], budget: float, *, highest: float, guess: float
) -> Calibrated:
    """The strength at which KL uses up a budget, to 95 % at least, and does not overdraw it.

    Args:
        measure: KL at a strength above 0.
        budget: The KL that must not be exceeded.
        highest: The strongest that is tried; where it leaves more of the budget unused, it is the answer.
        guess: Where to measure first.

    Raises:
        ConfigurationError, NumericalError: See ``at_divergence``.
    """
    unused = 0.5 * _MOST_UNUSED
    return at_divergence(
        measure, (1 - unused) * budget, highest=highest, guess=guess, tolerance=unused / (1 - unused)
    )


def _between(low: _Point, high: _Point, before: _Point, last: _Point, target: float, *, halve: bool) -> float:
    """Where to measure next: along the power law through the last two points, or in the middle."""
    strength = math.nan if halve else _along(before, last, target)
    if low.strength < strength < high.strength:
        return strength
    return math.sqrt(low.strength * high.strength) if low.strength > 0 else 0.5 * high.strength


def _along(before: _Point, last: _Point, target: float) -> float:
    """Where the power law through two points has the target; infinite where they tell none."""
    if not 0 < last.kl < math.inf:
        return math.inf
    power = _QUADRATIC
    ratio = last.strength / before.strength
    if ratio != 1 and 0 < before.kl < math.inf:
        power = math.log(last.kl / before.kl) / math.log(ratio)
    if not 1 / _STEEPEST < power < _STEEPEST:
        power = _QUADRATIC
    return last.strength * math.exp(math.log(target / last.kl) / power)


def _measured(measure: Callable[[float], float], strength: float) -> float:
    kl = float(measure(strength))
    if math.isnan(kl):
        raise NumericalError(
            f"At strength {strength:g} the KL to the base model is NaN.",
            hint="Load the model in float32, or lower the highest strength.",
        )
    return kl


def _check(target: float, highest: float, guess: float | None, tolerance: float, steps: int) -> None:
    for name, value in (("target", target), ("highest", highest)):
        if not 0 < value < math.inf:
            raise ConfigurationError(f"`{name}` is {value}; it must be a number above 0.")
    if guess is not None and not 0 < guess <= highest:
        raise ConfigurationError(f"`guess` is {guess}; it must be above 0 and at most {highest}.")
    if not 0 < tolerance < 1:
        raise ConfigurationError(f"`tolerance` is {tolerance}; it must be between 0 and 1.")
    if steps < 1:
        raise ConfigurationError(f"`steps` is {steps}; at least one measurement is needed.")
