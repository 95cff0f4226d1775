"""Activations on disk: harvested once for several hook points, then read in shuffled batches.

Both halves are bounded in memory: harvesting holds one shard, reading holds one group of shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from onesense.errors import ConfigurationError, FormatError, NotFoundError, NumericalError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.store.run_folder import RunFolder
from onesense.store.tensor_file import read_shapes
from onesense.text.corpus import Document
from onesense.text.windows import Window, batch_windows, iter_windows

Progress = Callable[[int, int | None], None]

# A position whose norm is over five times the batch's median belongs to an attention sink, not to text.
OUTLIER_FACTOR = 5.0


@dataclass(frozen=True, slots=True)
class HarvestSettings:
    """How activations are harvested.

    Attributes:
        context_size: Tokens of a window, its BOS included.
        windows_per_shard: Windows of one shard, the unit of resume.
        windows_per_batch: Windows of one forward pass.
        max_tokens: Stop after about so many tokens; None takes the whole text.
    """

    context_size: int = 128
    windows_per_shard: int = 512
    windows_per_batch: int = 32
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        sizes = (
            self.windows_per_shard,
            self.windows_per_batch,
            1 if self.max_tokens is None else self.max_tokens,
        )
        if min(sizes) < 1:
            raise ConfigurationError("Shards, batches and token counts must be at least 1.")


def usable_positions(activation: Tensor, content: Tensor) -> Tensor:
    """Positions that count in statistics and training.

    Args:
        activation: [batch, seq, width].
        content: True where a token is neither special nor padding, [batch, seq].

    Returns:
        Bool [batch, seq]: content, and the norm is at most ``OUTLIER_FACTOR`` times the median of the content.
    """
    norms = activation.float().norm(dim=-1)
    if not bool(content.any()):
        return content
    usable: Tensor = content & (norms <= OUTLIER_FACTOR * norms[content].median())
    return usable


def harvest(
    model: LanguageModel,
    points: Sequence[HookPoint],
    documents: Iterable[Document],
    run: RunFolder,
    settings: HarvestSettings,
    progress: Progress | None = None,
) -> int:
    """Write the activations of a text at several hook points, from one pass over it.

    Shards that are there already are not computed again.

    Args:
        model: The model.
        points: Where to read.
        documents: The text.
        run: Where the shards go, as results ``<hook point>/shard-NNNN``.
        settings: Sizes.
        progress: Called with tokens done and tokens wanted.

    Returns:
        Number of shards.

    Raises:
        NumericalError: An activation is NaN or infinite.
        ConfigurationError: The text holds no token.
    """
    windows = iter_windows(model, documents, context_size=settings.context_size)
    tokens = 0
    shard = 0
    while settings.max_tokens is None or tokens < settings.max_tokens:
        chunk = list(islice(windows, settings.windows_per_shard))
        if not chunk:
            break
        tokens += sum(len(window.ids) for window in chunk)
        if not all(_is_whole(run, shard_name(point, shard)) for point in points):
            for point, rows in _harvest_shard(model, points, chunk, settings).items():
                run.write_result(shard_name(point, shard), {"activations": rows})
        shard += 1
        if progress is not None:
            progress(tokens, settings.max_tokens)
    if shard == 0:
        raise ConfigurationError("The text holds no token to train on.", hint="Give more text with --text.")
    return shard


def shard_name(point: HookPoint, shard: int) -> str:
    """Name of a shard among the results of its run."""
    return f"blocks-{point.layer}-{point.suffix.replace('.', '-')}/shard-{shard:04d}"


def _is_whole(run: RunFolder, name: str) -> bool:
    """Whether a shard is there, every bit of it."""
    try:
        run.read_result(name)
    except (NotFoundError, FormatError):
        return False
    return True


def _harvest_shard(
    model: LanguageModel, points: Sequence[HookPoint], windows: Sequence[Window], settings: HarvestSettings
) -> dict[HookPoint, Tensor]:
    kept: dict[HookPoint, list[Tensor]] = {point: [] for point in points}
    for first in range(0, len(windows), settings.windows_per_batch):
        batch = batch_windows(model, windows[first : first + settings.windows_per_batch])
        found = capture(model, batch, points)
        usable = batch.content
        for point in points:
            check_finite(found[point][batch.content], point, windows[first])
            usable = usable_positions(found[point], usable)
        for point in points:
            kept[point].append(found[point][usable].to(torch.bfloat16).cpu())
    return {point: torch.cat(rows) for point, rows in kept.items()}


def check_finite(rows: Tensor, point: HookPoint, window: Window) -> None:
    """Refuse NaN and infinity, before outliers are left out: among them nobody would see the damage.

    Args:
        rows: Activations of all content, [positions, width].
        point: Where they were read.
        window: The first of the windows that were read.

    Raises:
        NumericalError: One of them is not finite.
    """
    if not bool(torch.isfinite(rows).all()):
        raise NumericalError(
            f"The activations at {point} hold NaN or infinity (from document {window.document} on).",
            hint="Run the model in float32 (--dtype float32); if that fails too, its weights are damaged.",
        )


class ActivationStream(Iterator[Tensor]):
    """Shuffled batches of harvested activations, over and over.

    Shards are dealt into groups in an order drawn anew for each epoch; rows are shuffled within a group.
    The order depends on the seed alone, so a stream that starts at ``position`` goes on exactly where another
    one stopped.

    Args:
        run: Where the shards are.
        point: Whose activations.
        shards: Which shards.
        batch_size: Rows of one batch.
        seed: Of the shuffle.
        shards_per_group: Shards held in memory at a time.
        position: Batches to skip.
    """

    def __init__(
        self,
        run: RunFolder,
        point: HookPoint,
        shards: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        shards_per_group: int = 6,
        position: int = 0,
    ) -> None:
        self._run, self._point, self._shards = run, point, list(shards)
        self._batch_size, self._seed, self._group_size = batch_size, seed, shards_per_group
        self.position = 0
        self._batches = self._generate(position)
        self._check_size()

    def _check_size(self) -> None:
        if not self._shards:
            raise ConfigurationError(
                "There is no activation to train on.", hint="Give more text with --text."
            )

    def __iter__(self) -> ActivationStream:
        return self

    def __next__(self) -> Tensor:
        self.position += 1
        return next(self._batches)

    def _generate(self, skip: int) -> Iterator[Tensor]:
        self.position = skip
        epoch = 0
        while True:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._shards))
            produced = 0
            for group in range(0, len(order), self._group_size):
                chosen = [self._shards[index] for index in order[group : group + self._group_size]]
                rows = sum(self._rows(shard) for shard in chosen)
                batches = rows // self._batch_size
                produced += batches
                if skip >= batches:
                    skip -= batches
                    continue
                held = torch.cat([self._read(shard) for shard in chosen])
                shuffle = torch.from_numpy(
                    np.random.default_rng([self._seed, epoch, group]).permutation(rows)
                )
                for batch in range(skip, batches):
                    yield held[shuffle[batch * self._batch_size : (batch + 1) * self._batch_size]].float()
                skip = 0
            if produced == 0:
                raise ConfigurationError(
                    f"The text gives fewer activations than one batch of {self._batch_size}.",
                    hint="Give more text, or a smaller --batch-size.",
                )
            epoch += 1

    def _rows(self, shard: int) -> int:
        return read_shapes(self._run.result_path(shard_name(self._point, shard)))["activations"][0]

    def _read(self, shard: int) -> Tensor:
        array = self._run.read_result(shard_name(self._point, shard))["activations"]
        return torch.from_numpy(array).to(torch.bfloat16)
