"""What a text did in a model: the residual stream at every position, and where each unit fired."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from onesense.engine.executor import Executor, LocalExecutor
from onesense.engine.stages import Stages
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.features.context_shards import limit_tokens
from onesense.features.encoding import encoded
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import check_finite, usable_positions
from onesense.sae.dictionary import Dictionary
from onesense.senses.unit_sets import UnitSet
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document
from onesense.text.windows import Window, batch_windows, iter_windows

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

_WINDOWS_PER_SHARD = 128
_WINDOWS_AT_ONCE = 16
_LATENTS_AT_ONCE = 2**22  # 16 MiB of float32, however wide the dictionary is


@dataclass(frozen=True, slots=True, eq=False)
class Firings:
    """Where the units of a set fire, grouped by unit, positions in order.

    Attributes:
        pointer: Unit u has the entries ``pointer[u]`` to ``pointer[u + 1] - 1``, int64 [units + 1].
        position: Row among the positions, [firings].
        value: The latent, float32 [firings].
    """

    pointer: NDArray[np.int64]
    position: Ints
    value: Floats

    @property
    def count(self) -> NDArray[np.int64]:
        """How often each unit fires, [units]."""
        return np.diff(self.pointer)

    def of(self, unit: int) -> tuple[Ints, Floats]:
        """Positions and latents of one unit."""
        own = slice(int(self.pointer[unit]), int(self.pointer[unit + 1]))
        return self.position[own], self.value[own]


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """A text as the model read it, position by position in reading order; outliers and special tokens are left out.

    Attributes:
        residual: The stream at the hook point, float16 [positions, d_model] in parts.
        token: Token ids, [positions].
        before: Token ids one position earlier; -1 at a window's start, [positions].
        document: Index of the document, [positions].
        window: Number of the window, [positions].
        offset: Position within its document, [positions].
        firings: By name of the unit set.
    """

    residual: Sequence[NDArray[np.float16]]
    token: Ints
    before: Ints
    document: Ints
    window: Ints
    offset: Ints
    firings: dict[str, Firings]

    def __len__(self) -> int:
        """Positions."""
        return len(self.token)

    def rows(self, positions: NDArray[np.integer]) -> Floats:
        """The residual stream at some positions, float32 [n, d_model]."""
        edges = np.cumsum([0, *(len(part) for part in self.residual)])
        part_of = np.searchsorted(edges, positions, side="right") - 1
        found = np.empty((len(positions), self.residual[0].shape[1]), dtype=np.float32)
        for part in np.unique(part_of):
            chosen = part_of == part
            found[chosen] = self.residual[part][positions[chosen] - edges[part]]
        return found


def collect_activity(
    model: LanguageModel,
    point: HookPoint,
    unit_sets: Sequence[UnitSet],
    documents: Iterable[Document],
    run: RunFolder,
    *,
    tokens: int,
    context_size: int = 128,
    stages: Stages,
    executor: Executor | None = None,
) -> Activity:
    """Read a text once: the residual stream at one hook point, and the firings of all units.

    What was read before stays; an interrupted call goes on at the next shard.

    Args:
        model: The model.
        point: Where the stream is kept.
        unit_sets: Whose firings.
        documents: The text.
        run: Where it is kept, as results ``activity/shard-NNNN``; write-locked by the caller.
        tokens: How many tokens to read at most.
        context_size: Tokens of a window, its BOS included.
        stages: Told about progress.
        executor: Where text is read; None: here. Results do not depend on it.

    Raises:
        ConfigurationError: The text holds no token.
        NumericalError: NaN or infinity.
        IncompatibleError: A unit set does not fit the model.
    """
    names = [one.name for one in unit_sets]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"Two sets of units have the same name: {', '.join(names)}.")
    windows = limit_tokens(iter_windows(model, documents, context_size=context_size), tokens)
    near = [UnitSet(one.name, one.dictionary.to(device=model.device), one.directions) for one in unit_sets]
    begun: deque[_Part] = deque()
    done = shards = 0

    def missing() -> Iterator[_Part]:
        nonlocal shards, done
        while group := list(islice(windows, _WINDOWS_PER_SHARD)):
            part = _Part(shards, group, shards * _WINDOWS_PER_SHARD)
            shards += 1
            if run.has_result(_shard_name(part.shard)):
                done += part.tokens
            else:
                begun.append(part)
                yield part

    with stages.stage("Reading text", "tokens") as progress:
        for found in (executor or LocalExecutor()).map_shards(_Reading(model, point, near), missing()):
            part = begun.popleft()
            run.write_result(_shard_name(part.shard), found)
            done += part.tokens
            progress(done, tokens)
        progress(done, tokens)
    if not shards:
        raise ConfigurationError("The text holds no token.", hint="Give more text with --text.")
    return read_activity(run, unit_sets, shards)


@dataclass(frozen=True, slots=True)
class _Part:
    """Windows of the text that are read together; the first of them has the number `first` in the text."""

    shard: int
    windows: Sequence[Window]
    first: int

    @property
    def tokens(self) -> int:
        return sum(len(window.ids) for window in self.windows)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads a part of the text; can be sent to another process."""

    model: LanguageModel
    point: HookPoint
    unit_sets: Sequence[UnitSet]

    def __call__(self, part: _Part) -> dict[str, NDArray[np.generic]]:
        return _shard(self.model, self.point, self.unit_sets, part.windows, part.first)


def read_activity(run: RunFolder, unit_sets: Sequence[UnitSet], shards: int) -> Activity:
    """What ``collect_activity`` wrote.

    Raises:
        NotFoundError, FormatError: A shard is missing or damaged.
    """
    parts = [run.read_result(_shard_name(shard)) for shard in range(shards)]
    sizes = np.cumsum([0, *(len(part["token"]) for part in parts)])
    named = _columns(parts)
    firings = {}
    for number, one in enumerate(unit_sets):
        unit = np.concatenate([part[f"unit-{number}"] for part in parts])
        position = np.concatenate(
            [part[f"position-{number}"] + int(first) for part, first in zip(parts, sizes, strict=False)]
        )
        value = np.concatenate([part[f"value-{number}"] for part in parts]).astype(np.float32)
        order = np.argsort(unit, kind="stable")
        pointer = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=one.n_units))])
        firings[one.name] = Firings(pointer, position[order].astype(np.int32), value[order])
    return Activity([np.asarray(part["residual"], np.float16) for part in parts], **named, firings=firings)


def read_text(run: RunFolder) -> Activity:
    """What ``collect_activity`` wrote, without streams and firings: enough to show contexts.

    Raises:
        NotFoundError: Nothing was read yet.
        FormatError: A shard is damaged.
    """
    shards = sum(name.startswith("activity/") for name in run.results())
    parts = [run.read_result(_shard_name(shard)) for shard in range(max(shards, 1))]
    return Activity([], **_columns(parts), firings={})


def _columns(parts: Sequence[dict[str, NDArray[np.generic]]]) -> dict[str, Ints]:
    return {
        name: np.concatenate([part[name] for part in parts]).astype(np.int32)
        for name in ("token", "before", "document", "window", "offset")
    }


def firing_rates(model: LanguageModel, dictionary: Dictionary, windows: Sequence[Window]) -> torch.Tensor:
    """Share of the positions of a text at which each feature fires, float64 on the CPU, [d_sae].

    Raises:
        NumericalError: NaN or infinity.
    """
    near = dictionary.to(device=model.device)
    fired, positions = torch.zeros(dictionary.d_sae, dtype=torch.int64), 0
    for start in range(0, len(windows), _WINDOWS_AT_ONCE):
        batch = batch_windows(model, windows[start : start + _WINDOWS_AT_ONCE])
        found = capture(model, batch, [near.hook_point])[near.hook_point]
        check_finite(found[batch.content], near.hook_point, windows[start])
        rows = found[usable_positions(found, batch.content)]
        positions += len(rows)
        fired += _fired(near, rows)
    return fired.double() / max(positions, 1)


def rates_among(dictionary: Dictionary, rows: torch.Tensor) -> torch.Tensor:
    """Share of activations at which each feature fires, float64 on the CPU, [d_sae].

    Args:
        dictionary: The dictionary.
        rows: Activations at its hook point, [positions, d_in].
    """
    return _fired(dictionary, rows).double() / max(len(rows), 1)


def _fired(dictionary: Dictionary, rows: torch.Tensor) -> torch.Tensor:
    """How many of some activations each feature fires at, on the CPU, [d_sae]."""
    fired = torch.zeros(dictionary.d_sae, dtype=torch.int64)
    for part in rows.split(_rows_at_once(dictionary)):
        with torch.no_grad():
            values, limit = encoded(dictionary, part.to(dictionary.device))
        fired += (values > limit).sum(0).cpu()
    return fired


def _shard_name(shard: int) -> str:
    return f"activity/shard-{shard:04d}"


def _shard(
    model: LanguageModel,
    point: HookPoint,
    unit_sets: Sequence[UnitSet],
    windows: Sequence[Window],
    first: int,
) -> dict[str, NDArray[np.generic]]:
    points = list(dict.fromkeys([point, *(one.dictionary.hook_point for one in unit_sets)]))
    prefix = 0 if model.bos_id is None else 1
    columns: dict[str, list[NDArray[np.generic]]] = {}
    kept = 0
    for start in range(0, len(windows), _WINDOWS_AT_ONCE):
        group = windows[start : start + _WINDOWS_AT_ONCE]
        batch = batch_windows(model, group)
        found = capture(model, batch, points)
        for read in points:
            check_finite(found[read][batch.content], read, group[0])
        usable = usable_positions(found[point], batch.content)
        row, column = (one.cpu().numpy() for one in usable.nonzero(as_tuple=True))
        residual = found[point][usable]
        ids = batch.ids.cpu().numpy()
        place = column - prefix
        part: dict[str, NDArray[np.generic]] = {
            "residual": _half(residual),
            "token": ids[row, column].astype(np.int32),
            "before": np.where(place > 0, ids[row, np.maximum(column - 1, 0)], -1).astype(np.int32),
            "document": np.array([window.document for window in group], np.int32)[row],
            "window": (first + start + row).astype(np.int32),
            "offset": (np.array([window.start for window in group])[row] + place).astype(np.int32),
        }
        for number, one in enumerate(unit_sets):
            where = found[one.dictionary.hook_point][usable]
            position, unit, value = _firings(one, where)
            part |= {f"unit-{number}": unit, f"position-{number}": position + kept, f"value-{number}": value}
        kept += len(row)
        for name, array in part.items():
            columns.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in columns.items()}


def _firings(one: UnitSet, activations: torch.Tensor) -> tuple[Ints, Ints, Floats]:
    if activations.shape[1] != one.dictionary.d_in:
        raise IncompatibleError(
            f"{one.name} read {one.dictionary.d_in} numbers, and {one.dictionary.hook_point} has "
            f"{activations.shape[1]}.",
            hint="Choose a dictionary of this model.",
        )
    parts = []
    rows = _rows_at_once(one.dictionary)
    for start in range(0, len(activations), rows):
        with torch.no_grad():
            values, limit = encoded(one.dictionary, activations[start : start + rows])
        where = (values > limit).nonzero()
        found = values[where[:, 0], where[:, 1]].float()
        parts.append((where + torch.tensor([start, 0], device=where.device), found))
    places, latents = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return places[:, 0].astype(np.int32), places[:, 1].astype(np.int32), latents


def _rows_at_once(dictionary: Dictionary) -> int:
    return max(1, _LATENTS_AT_ONCE // dictionary.d_sae)


def _half(residual: torch.Tensor) -> NDArray[np.float16]:
    """Scaled to root mean square 1, which float16 holds and which directions do not depend on."""
    wide = residual.float()
    scaled = wide / wide.square().mean(-1, keepdim=True).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    half: NDArray[np.float16] = scaled.half().cpu().numpy()
    return half
