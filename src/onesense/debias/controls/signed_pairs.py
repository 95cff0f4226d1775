"""Any linear coordinate as features: a pair of rectified latents, one for each sign.

A dictionary of relu features has no negative latents, and a coordinate ``a . (h - mean)`` has both signs. As
the two features with encoders ``a`` and ``-a`` and decoders ``w`` and ``-w``, it is edited like any other: to
scale both by s takes ``(1 - s) * (a . (h - mean)) * w`` away from the activation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.sae.dictionary import Architecture, Dictionary, Origin
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.where import Where


def signed_pairs(
    point: HookPoint,
    readers: Tensor,
    writers: Tensor,
    *,
    mean: Tensor | None = None,
    model_name: str | None = None,
) -> Dictionary:
    """A dictionary whose features 2i and 2i + 1 are the two signs of coordinate i.

    Args:
        point: Where it reads and writes the model.
        readers: For each coordinate the direction that reads it, [width, coordinates].
        writers: For each coordinate the direction that it stands for, [coordinates, width].
        mean: What is subtracted before reading, [width]; None for nothing. It is the decoder's bias, so the
            reconstruction of a whole basis is the activation itself.
        model_name: Name of the model.

    Returns:
        A relu dictionary in float32 with twice as many features as there are coordinates.

    Raises:
        IncompatibleError: The shapes do not belong together.
        NumericalError: NaN or infinity.
    """
    width, coordinates = readers.shape
    if writers.shape != (coordinates, width) or (mean is not None and mean.shape != (width,)):
        given = "" if mean is None else f", mean {list(mean.shape)}"
        raise IncompatibleError(
            f"At {point} the readers have shape {[width, coordinates]}, the writers "
            f"{list(writers.shape)}{given}.",
            hint="Readers are [width, coordinates], writers [coordinates, width], the mean [width].",
        )
    if mean is not None and not bool(mean.isfinite().all()):
        raise NumericalError(
            f"The mean activation at {point} is NaN or infinite.", hint="Load the model in float32."
        )
    return Dictionary(
        architecture=Architecture.RELU,
        hook_point=point,
        W_enc=torch.stack([readers, -readers], dim=2).flatten(1).to(torch.float32).contiguous(),
        b_enc=torch.zeros(2 * coordinates),
        W_dec=torch.stack([writers, -writers], dim=1).flatten(0, 1).to(torch.float32).contiguous(),
        b_dec=torch.zeros(width) if mean is None else mean.detach().to("cpu", torch.float32),
        origin=Origin(model_name=model_name),
    )


def both_signs(coordinates: Iterable[int]) -> list[int]:
    """The features of some coordinates, both signs of each."""
    return [feature for coordinate in coordinates for feature in (2 * coordinate, 2 * coordinate + 1)]


def scaled(
    dictionary: Dictionary, features: Iterable[int], share: float, *, where: Where | None = None
) -> EditGroup:
    """Edits that keep a share of some features.

    Args:
        dictionary: Whose features.
        features: Their ids.
        share: What is kept: 1 leaves every activation bit-equal, 0 ablates.
        where: The positions; None for every token that is not special.
    """
    where = where or Where()
    edits = [
        Edit(feature=feature, operation=Operation.SCALE, value=share, where=where) for feature in features
    ]
    return EditGroup(dictionary, edits)


def identity(group: EditGroup) -> EditGroup:
    """The control that must change nothing: the same features, each kept as it is, with the hooks on.

    Every activation comes out bit-equal, so a difference that is measured is the harness's own.
    """
    features = dict.fromkeys(edit.feature for edit in group.edits)
    kept = scaled(group.dictionary, features, 1.0)
    return replace(kept, hook_point=group.hook_point, mean_norm=group.mean_norm)


def stored(group: EditGroup, folder: Path | str) -> EditGroup:
    """Write the dictionary of a group, and give the group with the dictionary as it is read back.

    A recipe made from what is returned says where its dictionary is, so that it can be audited and shared.

    Args:
        group: Edits with a dictionary in memory.
        folder: Where the dictionary goes; it appears whole or not at all.

    Raises:
        ConfigurationError: The folder exists and is not empty, or the dictionary is not in float32.
        StorageError: It cannot be written.
    """
    if group.dictionary.dtype != torch.float32:
        raise ConfigurationError(
            f"The dictionary of a control is stored in float32 (given: {group.dictionary.dtype}).",
            hint="Convert it with `dictionary.to(dtype=torch.float32)` before the edits are made.",
        )
    written = write_saelens(group.dictionary, folder)
    return replace(group, dictionary=load_dictionary(path=written.resolve()))
