"""The text on which a split is made and judged: what the dictionary reads, and what its other features leave over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.engine.stages import Stages
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.features.context_shards import limit_tokens
from onesense.model.capture import capture
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.senses.activity import Activity
from onesense.text.corpus import Document
from onesense.text.windows import Window, batch_windows, iter_windows

_WINDOWS_AT_ONCE = 16
_ROWS_AT_ONCE = 1024


class Part(IntEnum):
    """What a document is used for."""

    FIT = 0
    CHOICE = 1
    HELD_OUT = 2


@dataclass(frozen=True, slots=True, eq=False)
class SplitText:
    """A text at the positions of its activity, in their order; it takes 8 bytes for each position and dimension.

    Attributes:
        features: The parents, [parents].
        inputs: What the encoder reads, float32 [positions, d_in].
        residual: What the dictionary should reconstruct, in its own units, less what the decoder bias and all
            features but the parents give, float32 [positions, d_in].
        latents: Of the parents, float32 [positions, parents].
        part: The ``Part`` of each position's document, [positions].
        held_out: The windows of the held-out documents.
    """

    features: tuple[int, ...]
    inputs: Tensor
    residual: Tensor
    latents: Tensor
    part: NDArray[np.int8]
    held_out: tuple[Window, ...]

    def rows(self, part: Part) -> Tensor:
        """The positions of a part, in order."""
        return torch.from_numpy(np.flatnonzero(self.part == part))

    def targets(self, dictionary: Dictionary, rows: Tensor) -> Tensor:
        """What the dictionary should reconstruct at some positions, [rows, d_in]."""
        inputs = self.inputs[rows]
        return inputs + dictionary.b_dec if dictionary.preparation.subtract_b_dec else inputs


def deal_documents(
    document: NDArray[np.integer], *, held_out: float, choice: float, seed: int
) -> NDArray[np.int8]:
    """Deal documents out to the parts, whole ones only.

    Args:
        document: Index of the document of each position.
        held_out: Share of the positions that is held out, about.
        choice: Share for choosing among ways to fit.
        seed: Of the order.

    Returns:
        The ``Part`` of each position.

    Raises:
        ConfigurationError: Too few documents for three parts.
    """
    ids, index, sizes = np.unique(document, return_inverse=True, return_counts=True)
    if len(ids) < 3:
        raise ConfigurationError(
            f"The text has {len(ids)} document{'s' if len(ids) != 1 else ''}; none is left to judge the split on.",
            hint="Give text with many documents: --text.",
        )
    order = np.random.default_rng(seed).permutation(len(ids))
    before = (np.cumsum(sizes[order]) - sizes[order]) / sizes.sum()
    dealt = np.where(
        before < held_out, Part.HELD_OUT, np.where(before < held_out + choice, Part.CHOICE, Part.FIT)
    )
    # The first ones may be so long that nothing is left for the others.
    dealt[0], dealt[-1] = Part.HELD_OUT, Part.FIT
    if Part.CHOICE not in dealt:
        dealt[1] = Part.CHOICE
    of_document = np.empty(len(ids), np.int8)
    of_document[order] = dealt
    return of_document[index]


@torch.no_grad()
def read_split_text(
    model: LanguageModel,
    dictionary: Dictionary,
    features: Sequence[int],
    documents: Iterable[Document],
    activity: Activity,
    part: NDArray[np.int8],
    *,
    tokens: int,
    context_size: int,
    stages: Stages,
) -> SplitText:
    """Read the text of an activity once more: the true activations, which the activity keeps as directions only.

    Args:
        model: The model.
        dictionary: Its norm factor folded in.
        features: The parents.
        documents: The text of the activity.
        activity: Where the parents' contexts were labelled.
        part: Of each position.
        tokens: How many tokens the activity was given at most.
        context_size: As for the activity.
        stages: Told about progress.

    Raises:
        IncompatibleError: It is another text, or was cut into other windows.
        NumericalError: NaN or infinity in the activations.
    """
    windows = list(limit_tokens(iter_windows(model, documents, context_size=context_size), tokens))
    if not len(activity) or activity.window[-1] >= len(windows):
        raise _another_text()
    near = dictionary.to(device=model.device, dtype=torch.float32)
    chosen = torch.tensor(list(features), dtype=torch.int64, device=near.device)
    columns: list[tuple[Tensor, Tensor, Tensor]] = []
    # Positions are in the order of their windows.
    edges = np.searchsorted(activity.window, np.arange(0, len(windows) + _WINDOWS_AT_ONCE, _WINDOWS_AT_ONCE))
    with stages.stage("Reading activations", "windows") as progress:
        for number, start in enumerate(range(0, len(windows), _WINDOWS_AT_ONCE)):
            group = windows[start : start + _WINDOWS_AT_ONCE]
            rows = _rows_at(model, near, group, activity, slice(edges[number], edges[number + 1]), start)
            columns += [_left_over(near, part, chosen) for part in rows.split(_ROWS_AT_ONCE)]
            progress(start + len(group), len(windows))
    held_out = set(activity.document[part == Part.HELD_OUT].tolist())
    inputs, residual, latents = (torch.cat(column) for column in zip(*columns, strict=True))
    return SplitText(
        tuple(features),
        inputs,
        residual,
        latents,
        part,
        tuple(one for one in windows if one.document in held_out),
    )


def _rows_at(
    model: LanguageModel,
    dictionary: Dictionary,
    windows: Sequence[Window],
    activity: Activity,
    positions: slice,
    first: int,
) -> Tensor:
    """Activations at those positions of the activity that lie in some windows, float32 [positions, d_in].

    The activity says which positions count: with another number format others may be outliers.
    """
    batch = batch_windows(model, windows)
    row = activity.window[positions] - first
    starts = np.array([window.start for window in windows])
    column = activity.offset[positions] - starts[row] + (0 if model.bos_id is None else 1)
    if column.size and not 0 <= column.min() <= column.max() < batch.ids.shape[1]:
        raise _another_text()
    where = (torch.from_numpy(row).long().to(model.device), torch.from_numpy(column).long().to(model.device))
    if not np.array_equal(batch.ids[where].cpu().numpy(), activity.token[positions]):
        raise _another_text()
    found = capture(model, batch, [dictionary.hook_point])[dictionary.hook_point]
    return found[where].float()


def _another_text() -> IncompatibleError:
    return IncompatibleError(
        "The text is not the one whose contexts were labelled.",
        hint="Give the same text, number of tokens and context size.",
    )


def _left_over(
    dictionary: Dictionary, activations: Tensor, features: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder inputs, residual and the parents' latents of some rows, on the CPU."""
    latents = dictionary.encode(activations)
    own = latents[:, features].clone()
    target = dictionary.target(activations)
    latents[:, features] = 0
    inputs = target - dictionary.b_dec if dictionary.preparation.subtract_b_dec else target
    return inputs.cpu(), (target - dictionary.decode(latents)).cpu(), own.cpu()
