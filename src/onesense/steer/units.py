"""From the units that people think in to amounts in the dictionary's own activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onesense.errors import ConfigurationError, NumericalError
from onesense.steer.edit import Edit, Unit


def raw_amounts(
    edits: Sequence[Edit],
    row_norms: Sequence[float],
    *,
    mean_norm: float | None = None,
    max_activation: Mapping[int, float] | None = None,
) -> Tensor:
    """The amount of each edit in unit ``raw``.

    Args:
        edits: The edits.
        row_norms: For each edit the norm of its feature's decoder row, in the model's units.
        mean_norm: Mean norm of the activations at the hook point; needed for unit ``norm``.
        max_activation: Largest activation of features by id; needed for unit ``max``.

    Returns:
        float32 [edits].

    Raises:
        ConfigurationError: A number that a unit needs is not known.
        NumericalError: An amount is not a finite float32.
    """
    largest = max_activation or {}
    amounts = torch.tensor(
        [
            edit.amount * _factor(edit, norm, mean_norm, largest)
            for edit, norm in zip(edits, row_norms, strict=True)
        ],
        dtype=torch.float32,
    )
    for edit, amount in zip(edits, amounts.tolist(), strict=True):
        if not abs(amount) < float("inf"):
            raise NumericalError(
                f"{edit.operation} of feature {edit.feature} by {edit.amount} {edit.unit} is not finite.",
                hint="Use a smaller value.",
            )
    return amounts


def _factor(edit: Edit, row_norm: float, mean_norm: float | None, largest: Mapping[int, float]) -> float:
    if edit.unit is Unit.RAW:
        return 1.0
    if edit.unit is Unit.MAX:
        known = largest.get(edit.feature)
        if known is None:
            raise ConfigurationError(
                f"Unit `max` needs the largest activation of feature {edit.feature}, which is not known.",
                hint="Give a run folder whose contexts were extracted (onesense extract), or use unit `raw`.",
            )
        if known <= 0:
            raise ConfigurationError(
                f"Feature {edit.feature} never fired in the contexts, so it has no largest activation.",
                hint="Use unit `raw` or `norm`.",
            )
        return known
    if mean_norm is None:
        raise ConfigurationError(
            "Unit `norm` needs the mean norm of the hook point, which is not known.",
            hint="Measure it (onesense.steer.dose.measure_mean_norm), or use unit `raw`.",
        )
    if row_norm == 0:
        raise NumericalError(
            f"The decoder row of feature {edit.feature} is zero, so no amount of it has a norm.",
            hint="The feature is dead; choose another.",
        )
    return mean_norm / row_norm
