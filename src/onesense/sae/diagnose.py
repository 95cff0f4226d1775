"""When a dictionary does not fit, find out why: read it in the ways that usual mistakes would ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from onesense.model.hook_points import HookPoint
from onesense.sae.dictionary import Architecture, Dictionary, Normalization
from onesense.sae.metrics import ReconstructionMetrics

USUAL_CAUSES = (
    "wrong hook point, off by one layer, TopK read as ReLU, threshold lost, scale not folded, missing "
    "centring, wrong base model"
)
# Sparsities to try where a dictionary does not say its own.
_USUAL_K = (16, 32, 64, 128)
_ROWS_PER_STEP = 512
_LATENTS_PER_STEP = 2**26  # of a wide dictionary, fewer rows: 256 MiB of float32


class Reading(NamedTuple):
    """A way to read the dictionary, and how well it fits.

    Attributes:
        cause: What would be wrong if this is the right way.
        l0: Mean number of active latents.
        fvu: Fraction of variance unexplained.
    """

    cause: str
    l0: float
    fvu: float


def measure(dictionary: Dictionary, activations: Tensor) -> ReconstructionMetrics:
    """L0, FVU and dead share on some activations.

    Args:
        dictionary: What to measure.
        activations: [n, d_in].
    """
    metrics = ReconstructionMetrics(dictionary.d_sae)
    with torch.no_grad():
        for rows in torch.split(activations, _rows_per_step(dictionary.d_sae)):
            latents = dictionary.encode(rows)
            metrics.update(dictionary.target(rows), dictionary.decode(latents, rows), latents)
    return metrics


def _rows_per_step(d_sae: int) -> int:
    return min(_ROWS_PER_STEP, max(_LATENTS_PER_STEP // d_sae, 1))


def read_as(cause: str, dictionary: Dictionary, activations: Tensor) -> Reading:
    """Measure one way to read."""
    metrics = measure(dictionary, activations)
    return Reading(cause, metrics.l0, metrics.fvu)


def other_readings(
    dictionary: Dictionary, activations: Tensor, elsewhere: Mapping[HookPoint, Tensor]
) -> list[Reading]:
    """Read the dictionary as usual mistakes would ask for.

    Args:
        dictionary: As it was loaded.
        activations: At its hook point, [n, d_in].
        elsewhere: At other hook points of the same width, [n, d_in] each.

    Returns:
        The readings, best fit first.
    """
    readings = [
        read_as(place_cause(dictionary.hook_point, point), dictionary, rows)
        for point, rows in elsewhere.items()
    ]
    variants = [*_variants(dictionary, activations)]
    variants += sparser(dictionary, measure(dictionary, activations).l0)
    readings += [read_as(cause, variant, activations) for cause, variant in variants]
    return sorted(readings, key=lambda reading: reading.fvu)


def with_centering(dictionary: Dictionary) -> tuple[str, Dictionary]:
    """The dictionary with centring switched over, and what that would mean."""
    center = not dictionary.preparation.center
    cause = (
        "missing centring: it was trained on a model with center_writing_weights"
        if center
        else "centring that it does not want: it was trained on the model as published"
    )
    return cause, _rebuilt(dictionary, preparation=replace(dictionary.preparation, center=center))


def with_b_dec(dictionary: Dictionary) -> tuple[str, Dictionary]:
    """The dictionary with the subtraction of `b_dec` switched over, and what that would mean."""
    subtract = not dictionary.preparation.subtract_b_dec
    cause = f"b_dec {'must be' if subtract else 'must not be'} subtracted from its input"
    return cause, _rebuilt(dictionary, preparation=replace(dictionary.preparation, subtract_b_dec=subtract))


def place_cause(own: HookPoint, other: HookPoint) -> str:
    """What it would mean that a dictionary for `own` fits `other` better."""
    off_by_one = own.suffix == other.suffix and abs(own.layer - other.layer) == 1
    return f"{'off by one layer' if off_by_one else 'wrong hook point'}: it fits {other} better than {own}"


def sparser(dictionary: Dictionary, l0: float) -> Iterator[tuple[str, Dictionary]]:
    """Latents cut down to the k largest per token: what a topk, or a threshold, would have done.

    Args:
        dictionary: A relu or jumprelu one; of others there is nothing to cut.
        l0: Its L0 as it is; only cuts to a third or less are of interest.
    """
    if dictionary.architecture not in (Architecture.RELU, Architecture.JUMPRELU):
        return
    recorded = dictionary.origin.expected_l0
    for k in _USUAL_K if recorded is None else (max(1, round(recorded)),):
        if 3 * k > l0:
            continue
        lost = (
            "threshold lost" if dictionary.threshold is not None else "TopK read as ReLU, or a threshold lost"
        )
        cause = f"{lost}: about {k} latents per token do as well"
        yield cause, _rebuilt(dictionary, architecture=Architecture.TOPK, k=k, threshold=None)


def _variants(dictionary: Dictionary, activations: Tensor) -> Iterator[tuple[str, Dictionary]]:
    preparation = dictionary.preparation
    yield with_centering(dictionary)
    if preparation.norm_factor is not None:
        yield (
            "scale applied twice: its normalisation factor is in the weights already",
            _rebuilt(dictionary, preparation=replace(preparation, norm_factor=None)),
        )
    elif not preparation.normalization.per_token:
        factor = activations.shape[-1] ** 0.5 / float(activations.float().norm(dim=-1).mean())
        scaled = replace(preparation, normalization=Normalization.EXPECTED_AVERAGE, norm_factor=factor)
        yield (
            f"scale not folded: it expects activations times {factor:.4g} (a mean norm of sqrt(d_in))",
            _rebuilt(dictionary, preparation=scaled),
        )
    yield with_b_dec(dictionary)


def _rebuilt(dictionary: Dictionary, **changes: object) -> Dictionary:
    return replace(dictionary, **changes)  # type: ignore[arg-type]
