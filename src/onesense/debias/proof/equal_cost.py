"""Every variant at the same KL to the unedited model, measured on text that no audit is scored on."""

from __future__ import annotations

from functools import cache

from onesense.debias.controls.calibrate import Calibrated, at_divergence
from onesense.debias.divergence import KlMeter
from onesense.debias.proof.variants import Variant

TOLERANCE = 0.05
"""How far the KL of a variant may be off the target, as a share of it."""


def at_equal_cost(variant: Variant, meter: KlMeter, target: float) -> Calibrated:
    """The strength at which a variant has the target's KL.

    A strength above 1 is tried only where the whole change stays below the target. A variant without a
    strength is measured as it is.

    Args:
        variant: The variant.
        meter: Measures KL.
        target: The KL wanted, nats per token.

    Raises:
        ConfigurationError: The target is not a number above 0.
        NumericalError: The edited model's logits are NaN.
    """
    measure = cache(lambda strength: meter.measure(variant.group(strength)))
    if variant.fixed:
        return Calibrated(1.0, measure(1.0), abs(measure(1.0) - target) <= TOLERANCE * target)
    found = at_divergence(measure, target, highest=min(1.0, variant.highest), tolerance=TOLERANCE)
    weak = not found.reached and found.strength == 1.0
    if not weak or variant.highest <= 1 or found.kl == 0:
        return found  # what changes nothing at all does not begin to at another strength
    return at_divergence(measure, target, highest=variant.highest, tolerance=TOLERANCE)
