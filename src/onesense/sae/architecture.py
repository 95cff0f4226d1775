"""The rules from pre-activations to latents, and what each needs to be well formed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from torch import Tensor

from onesense.errors import IncompatibleError, NumericalError
from onesense.sae.large_tensors import row_parts
from onesense.sae.origin import Origin


class Architecture(StrEnum):
    """The rule from pre-activations to latents; BatchTopK and Matryoshka are read as jumprelu."""

    RELU = "relu"
    JUMPRELU = "jumprelu"
    TOPK = "topk"
    GATED = "gated"


def check_tensors(tensors: Mapping[str, Tensor], origin: Origin) -> None:
    """Refuse tensors that disagree in shape or are not finite.

    Raises:
        IncompatibleError: Shapes disagree.
        NumericalError: NaN or infinity; the message names the tensor and the first feature.
    """
    _check_shapes(tensors, origin)
    for name, tensor in tensors.items():
        _check_finite(name, tensor, origin)


def check_rule(
    rule: Architecture, tensors: Mapping[str, Tensor], k: int | None, rescale_by_decoder_norm: bool
) -> None:
    """Refuse tensors and settings that do not belong to the rule.

    Raises:
        IncompatibleError: Something is missing or too much, or k is out of range.
    """
    if ("threshold" in tensors) != (rule is Architecture.JUMPRELU):
        raise IncompatibleError(
            f"A {rule} dictionary {'needs a' if rule is Architecture.JUMPRELU else 'has no'} threshold.",
            hint="Its architecture is named wrongly, or a tensor was lost.",
        )
    gated = rule is Architecture.GATED
    if ("b_mag" in tensors) != gated or ("r_mag" in tensors) != gated:
        raise IncompatibleError(
            f"b_mag and r_mag go with a gated dictionary; this one is {rule}.",
            hint="Its architecture is named wrongly, or a tensor was lost.",
        )
    d_sae = tensors["W_enc"].shape[1]
    if (k is not None) != (rule is Architecture.TOPK) or (k is not None and not 1 <= k <= d_sae):
        raise IncompatibleError(
            f"k is {k} in a {rule} dictionary of {d_sae} latents.",
            hint="A topk dictionary needs k between 1 and the number of latents; the others have none.",
        )
    if rescale_by_decoder_norm and rule is not Architecture.TOPK:
        raise IncompatibleError(
            f"Only a topk dictionary ranks by decoder norm; this one is {rule}.", hint="Fold the norm first."
        )


def _check_shapes(tensors: Mapping[str, Tensor], origin: Origin) -> None:
    shape = tuple(tensors["W_enc"].shape)
    if len(shape) != 2 or 0 in shape:
        raise IncompatibleError(
            f"W_enc of {origin.label} has shape {shape}; it must be [d_in, d_sae].", hint="Check the file."
        )
    d_in, d_sae = shape
    expected = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    found = dict(tensors) if origin.sparsity is None else {**tensors, "sparsity": origin.sparsity}
    for name, tensor in found.items():
        wanted = expected.get(name, (d_sae,))
        if tuple(tensor.shape) != wanted:
            raise IncompatibleError(
                f"{name} of {origin.label} has shape {tuple(tensor.shape)}; beside W_enc "
                f"{shape} it must be {wanted}.",
                hint="The files of two dictionaries may have been mixed, or a matrix is transposed.",
            )


def _check_finite(name: str, tensor: Tensor, origin: Origin) -> None:
    for first, rows in row_parts(tensor):
        if rows.isfinite().all():
            continue
        place = [int(index) for index in (~rows.isfinite()).nonzero()[0]]
        place[0] += first
        what = (
            f"dimension {place[0]}"
            if name == "b_dec"
            else f"feature {place[-1] if name == 'W_enc' else place[0]}"
        )
        raise NumericalError(
            f"{name} of {origin.label} holds NaN or infinity, first at {what}.",
            hint="The file is damaged, or its training diverged; download or train it again.",
        )
