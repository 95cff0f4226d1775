"""Other bases than a dictionary's features: neurons, coordinates of the residual stream, random directions.

They answer whether a result takes *features*: the same learning, with as many coefficients, runs on each.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from onesense.debias.controls.signed_pairs import signed_pairs
from onesense.errors import ConfigurationError, HookPointError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary

_RESIDUAL = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")


def neuron_basis(model: LanguageModel, layer: int, *, mean: Tensor | None = None) -> Dictionary:
    """The neurons of one MLP, after their activation function, as features.

    Neuron i is feature 2i where it is above its mean (above 0 without one) and 2i + 1 below: the neurons of
    GELU and of gated MLPs have both signs.

    Args:
        model: The model.
        layer: The block, from 0.
        mean: Mean activation of each neuron, [d_mlp], which then stays when a neuron is scaled.

    Returns:
        A dictionary at ``blocks.<layer>.mlp.hook_post`` with 2 * d_mlp features.

    Raises:
        HookPointError: The block does not exist, or its MLP has no such place, as where tokens are routed to
            experts.
        IncompatibleError: The mean has another width.
    """
    point = HookPoint(layer, "mlp.hook_post")
    width = model.resolve(point).width
    if width < 1:
        raise HookPointError(
            f"The configuration of `{model.name}` (a {model.family} model) does not say how many neurons an "
            "MLP has.",
            hint="Use the residual basis instead.",
        )
    return _standard_basis(model, point, width, mean)


def residual_basis(model: LanguageModel, point: HookPoint, *, mean: Tensor | None = None) -> Dictionary:
    """The coordinates of the residual stream, as features: coordinate i is 2i above its mean, 2i + 1 below.

    Args:
        model: The model.
        point: A place in the residual stream.
        mean: Mean activation, [d_model]; it stays when a coordinate is scaled.

    Raises:
        ConfigurationError: The hook point is not in the residual stream.
        HookPointError: It does not exist in this model.
        IncompatibleError: The mean has another width.
    """
    if point.suffix not in _RESIDUAL:
        raise ConfigurationError(
            f"`{point}` is not in the residual stream.", hint=f"Places in it: {', '.join(_RESIDUAL)}."
        )
    return _standard_basis(model, point, model.resolve(point).width, mean)


def random_directions(
    model: LanguageModel, point: HookPoint, n: int, seed: int, *, mean: Tensor | None = None
) -> Dictionary:
    """Random orthonormal directions as features: direction i is 2i along it from the mean, 2i + 1 against it.

    The directions are uniform over all sets of n orthonormal ones, and every decoder row has norm 1.

    Args:
        model: The model.
        point: Where.
        n: How many directions.
        seed: Which ones.
        mean: Mean activation, [width]; it stays when a direction is scaled.

    Raises:
        ConfigurationError: More directions than dimensions, or none.
        HookPointError: The hook point does not exist in this model.
        IncompatibleError: The mean has another width.
    """
    width = model.resolve(point).width
    if not 1 <= n <= width:
        raise ConfigurationError(
            f"{n} orthonormal directions do not fit {width} dimensions.", hint=f"Take 1 to {width}."
        )
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(width, n, generator=generator, dtype=torch.float64)
    orthonormal, triangular = torch.linalg.qr(gaussian)
    # Without the signs of the diagonal the distribution is not uniform.
    directions = orthonormal * torch.sign(torch.diagonal(triangular))
    return signed_pairs(point, directions, directions.T, mean=mean, model_name=model.name)


def coordinates_of(features: Iterable[int]) -> list[int]:
    """The coordinates (neurons, directions) that some features of a basis belong to, each once, in order."""
    return list(dict.fromkeys(feature // 2 for feature in features))


def _standard_basis(model: LanguageModel, point: HookPoint, width: int, mean: Tensor | None) -> Dictionary:
    axes = torch.eye(width)
    return signed_pairs(point, axes, axes, mean=mean, model_name=model.name)
