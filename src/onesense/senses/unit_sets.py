"""Units whose senses are counted: a dictionary's features, MLP neurons, coordinates of the residual stream.

Neurons and coordinates fire all the time. They are compared with features at matched firing rate: a unit fires
where it is above the threshold that gives it the density of a feature drawn for it. Without that they lose by
construction, since more contexts are more various.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.errors import ConfigurationError, HookPointError, IncompatibleError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import check_finite, usable_positions
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.text.windows import Window, batch_windows

_NEURONS = "mlp.hook_post"
_RESIDUAL = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")
_WINDOWS_AT_ONCE = 16
_DECODER_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class UnitSet:
    """Units of one kind.

    Attributes:
        name: Such as "features" or "neurons"; names the set in results.
        dictionary: Reads the units at its hook point; a unit fires where its latent is above 0.
        directions: What each unit writes into the residual stream, of norm 1, [units, d_model]; 0 where it
            writes nothing.
    """

    name: str
    dictionary: Dictionary
    directions: Tensor

    def __post_init__(self) -> None:
        if self.directions.ndim != 2 or len(self.directions) != self.dictionary.d_sae:
            raise IncompatibleError(
                f"{self.name}: {self.dictionary.d_sae} units and directions of shape "
                f"{list(self.directions.shape)} do not belong together."
            )

    @property
    def n_units(self) -> int:
        """How many there are."""
        return self.dictionary.d_sae


def feature_units(dictionary: Dictionary, name: str = "features") -> UnitSet:
    """The features of a dictionary in the residual stream.

    Raises:
        ConfigurationError: The dictionary reads another place, whose directions the stream does not know.
    """
    _require_residual(dictionary.hook_point)
    rows = torch.arange(dictionary.d_sae, device=dictionary.device).split(_DECODER_ROWS_AT_ONCE)
    return UnitSet(
        name, dictionary, torch.cat([_normalised(dictionary.decoder_rows(part).cpu()) for part in rows])
    )


def neuron_point(layer: int) -> HookPoint:
    """Where the neurons of a block are read: after their activation function."""
    return HookPoint(layer, _NEURONS)


def usable_rows(
    model: LanguageModel, points: Sequence[HookPoint], windows: Sequence[Window]
) -> dict[HookPoint, Tensor]:
    """Activations of a text at some points, read in one pass; outliers and special tokens are left out.

    Args:
        model: The model.
        points: Where.
        windows: The text.

    Returns:
        For each point float32 on the CPU, [positions, width].

    Raises:
        ConfigurationError: The text holds no position.
        HookPointError: The model has no such point.
        NumericalError: NaN or infinity.
    """
    parts: dict[HookPoint, list[Tensor]] = {point: [] for point in points}
    for start in range(0, len(windows), _WINDOWS_AT_ONCE):
        batch = batch_windows(model, windows[start : start + _WINDOWS_AT_ONCE])
        found = capture(model, batch, list(parts))
        for point, kept in parts.items():
            check_finite(found[point][batch.content], point, windows[start])
            kept.append(found[point][usable_positions(found[point], batch.content)].float().cpu())
    if not all(sum(len(part) for part in kept) for kept in parts.values()):
        raise ConfigurationError("There is no text to set thresholds on.", hint="Give more text with --text.")
    return {point: torch.cat(kept) for point, kept in parts.items()}


def neuron_units(
    model: LanguageModel, layer: int, rows: Tensor, densities: Tensor, *, seed: int = 0
) -> UnitSet:
    """The neurons of one MLP after their activation function, their positive side, at matched firing rate.

    Args:
        model: The model.
        layer: The block, from 0.
        rows: Their activations on a text of 10,000 tokens or more, as ``usable_rows`` reads them at
            ``neuron_point``, [positions, neurons]: on these the thresholds are set.
        densities: Firing rates of features; each neuron takes one of them, in random order, [features].
        seed: Of that order.

    Raises:
        HookPointError: The block's MLP has no neurons that can be read.
        ConfigurationError: No density above 0.
    """
    point = neuron_point(layer)
    written = written_by_neurons(model, point)
    return UnitSet("neurons", _thresholded(point, rows, densities, seed), _normalised(written))


def written_by_neurons(model: LanguageModel, point: HookPoint) -> Tensor:
    """What each neuron of an MLP adds to the residual stream where its activation is 1, [neurons, d_model].

    Args:
        model: The model.
        point: An ``mlp.hook_post``.

    Raises:
        HookPointError: The MLP has no neurons that can be read.
    """
    module, _side, width = model.resolve(point)
    if width < 1:
        raise HookPointError(
            f"The configuration of `{model.name}` (a {model.family} model) does not say how many neurons an "
            "MLP has.",
            hint="Leave the neurons out.",
        )
    with torch.no_grad():
        axes = torch.eye(width, device=model.device, dtype=model.dtype)
        written: Tensor = module(axes) - module(torch.zeros_like(axes))
    return written.float().cpu()


def residual_units(point: HookPoint, rows: Tensor, densities: Tensor, *, seed: int = 0) -> UnitSet:
    """The coordinates of the residual stream, their positive side, at matched firing rate; see ``neuron_units``.

    Raises:
        ConfigurationError: The hook point is not in the residual stream; no density above 0.
    """
    _require_residual(point)
    directions = torch.eye(rows.shape[1])
    return UnitSet("residual basis", _thresholded(point, rows, densities, seed), directions)


def matched_thresholds(values: Tensor, densities: Tensor, *, seed: int) -> Tensor:
    """For each column the threshold above which a share of its values lies that is drawn from ``densities``.

    Args:
        values: [positions, units].
        densities: Firing rates to draw from, without replacement as long as there are any, [features]; those of
            0 are left out, since a unit that never fires has no senses.
        seed: Of the draw.

    Returns:
        Thresholds, never negative, [units].

    Raises:
        ConfigurationError: No density above 0.
    """
    usable: NDArray[np.float64] = densities[densities > 0].double().cpu().numpy()
    if not len(usable):
        raise ConfigurationError(
            "No feature fires on this text.", hint="Give more text, or another dictionary."
        )
    generator = np.random.default_rng(seed)
    units = values.shape[1]
    rounds = -(-units // len(usable))
    drawn = np.concatenate([generator.permutation(usable) for _ in range(rounds)])[:units]
    ordered = values.float().sort(dim=0).values
    kept = np.clip(np.round(drawn * len(values)).astype(np.int64), 1, len(values) - 1)
    rows = torch.from_numpy(len(values) - 1 - kept).to(values.device)
    # A unit is above a negative value more often than it is active at all.
    return ordered.gather(0, rows[None])[0].clamp_min(0)


def _thresholded(point: HookPoint, rows: Tensor, densities: Tensor, seed: int) -> Dictionary:
    width = rows.shape[1]
    axes = torch.eye(width)
    return Dictionary(
        architecture=Architecture.JUMPRELU,
        hook_point=point,
        W_enc=axes,
        b_enc=torch.zeros(width),
        W_dec=axes,
        b_dec=torch.zeros(width),
        threshold=matched_thresholds(rows, densities, seed=seed),
    )


def written_norms(model: LanguageModel, one: UnitSet) -> Tensor:
    """Norm of what each unit adds to the residual stream where its latent is 1, float32 on the CPU, [units].

    Args:
        model: The model.
        one: Units in the residual stream, or neurons.

    Raises:
        HookPointError: The units are in neither place.
    """
    point = one.dictionary.hook_point
    if point.suffix == _NEURONS:
        norms: Tensor = written_by_neurons(model, point).norm(dim=-1)
        return norms
    if point.suffix not in _RESIDUAL:
        raise HookPointError(
            f"What the units at `{point}` add to the residual stream is not known.",
            hint=f"Take units at {_NEURONS}, or at one of: {', '.join(_RESIDUAL)}.",
        )
    rows = torch.arange(one.n_units, device=one.dictionary.device).split(_DECODER_ROWS_AT_ONCE)
    return torch.cat([one.dictionary.decoder_rows(part).norm(dim=-1).float().cpu() for part in rows])


def _require_residual(point: HookPoint) -> None:
    if point.suffix not in _RESIDUAL:
        raise ConfigurationError(
            f"`{point}` is not in the residual stream, where senses are told apart.",
            hint=f"Choose a dictionary at one of: {', '.join(_RESIDUAL)}.",
        )


def _normalised(rows: Tensor) -> Tensor:
    rows = rows.float()
    normalised: Tensor = rows / rows.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return normalised
