"""Measure benchmarks shard by shard into a run folder, so that an interrupted audit goes on where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onesense.bias.benchmark import Benchmark, Item
from onesense.bias.metric import Floats
from onesense.bias.scoring.requests import Scorer
from onesense.bias.scoring.scorer import ModelScorer
from onesense.engine.executor import Shard, plan_shards
from onesense.errors import NotFoundError, OnesenseError
from onesense.store.run_folder import RunFolder

ITEMS_PER_SHARD = 256
_EFFECT = "effect"


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A benchmark whose items were read.

    Attributes:
        benchmark: The benchmark.
        items: Its items, in order.
    """

    benchmark: Benchmark
    items: list[Item]

    @property
    def identity(self) -> str:
        """How many items there are, and a hash of all that is asked: other samples and texts are another run."""
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(repr((item.id, item.cluster, item.requests, sorted(item.facts.items()))).encode())
        return f"{len(self.items)} items, {digest.hexdigest()[:16]}"


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A benchmark that was measured.

    Attributes:
        benchmark: The benchmark.
        items: Its items, in order.
        tables: For each variant the columns, each float64 [items].
    """

    benchmark: Benchmark
    items: list[Item]
    tables: list[dict[str, Floats]]


@dataclass(frozen=True, slots=True)
class Effect:
    """What the edits of a variant did over all texts.

    Attributes:
        positions: Positions whose activation changed.
        largest_dose: Largest mean relative dose of a batch.
    """

    positions: int
    largest_dose: float


def read_items(benchmarks: Sequence[Benchmark], scorer: Scorer) -> tuple[list[Reading], dict[str, str]]:
    """The items of each benchmark, and why those were left out whose data is not there.

    Raises:
        FormatError: A file is damaged, or is not the published one.
    """
    readings, skipped = [], {}
    for benchmark in benchmarks:
        try:
            readings.append(Reading(benchmark, benchmark.items(scorer)))
        except NotFoundError as error:
            skipped[benchmark.key] = str(error).replace("\n", " ")
    return readings, skipped


def measure(
    readings: Sequence[Reading],
    scorer: ModelScorer,
    run: RunFolder,
    progress: Callable[[int, int | None], None],
) -> tuple[list[Measured], list[Effect]]:
    """Measure every benchmark, shard by shard; shards that the run folder holds are not measured again.

    Args:
        readings: What to measure.
        scorer: The model in its variants.
        run: Where shards are kept; it is locked by the caller.
        progress: Told how many items are done, and how many there are.

    Raises:
        OnesenseError: Scoring failed; the message names the benchmark.
    """
    total = sum(len(reading.items) for reading in readings)
    plans = [plan_shards(len(reading.items), ITEMS_PER_SHARD) for reading in readings]
    done = first = 0
    effects = np.zeros((scorer.n_variants, 2))
    measured = []
    for reading, shards in zip(readings, plans, strict=True):
        parts = []
        for shard in shards:
            tensors = run.read_shard(first + shard.index)
            if tensors is None:
                tensors = _measure_shard(reading, shard, scorer)
                run.write_shard(first + shard.index, tensors)
            effect = tensors.pop(_EFFECT)
            effects = np.stack(
                [effects[:, 0] + effect[:, 0], np.maximum(effects[:, 1], effect[:, 1])], axis=1
            )
            parts.append(_from_tensors(tensors, scorer.n_variants))
            done += len(shard)
            progress(done, total)
        first += len(shards)
        measured.append(Measured(reading.benchmark, reading.items, _joined(parts, scorer.n_variants)))
    return measured, [Effect(int(positions), float(dose)) for positions, dose in effects]


def _measure_shard(reading: Reading, shard: Shard, scorer: ModelScorer) -> dict[str, Floats]:
    scorer.take_effects()  # a shard's bytes do not depend on what was scored before it
    try:
        tables = reading.benchmark.measure(reading.items[shard.start : shard.stop], scorer)
    except OnesenseError as error:
        raise type(error)(f"{reading.benchmark.key}: {error.message}", hint=error.hint) from error
    tensors = {
        f"{variant}/{name}": np.ascontiguousarray(column, dtype=np.float64)
        for variant, table in enumerate(tables)
        for name, column in table.items()
    }
    return {**tensors, _EFFECT: np.array(scorer.take_effects(), dtype=np.float64)}


def _from_tensors(tensors: dict[str, Floats], n_variants: int) -> list[dict[str, Floats]]:
    tables: list[dict[str, Floats]] = [{} for _ in range(n_variants)]
    for name, column in sorted(tensors.items()):  # a shard that was read has them in this order
        variant, _, column_name = name.partition("/")
        tables[int(variant)][column_name] = column
    return tables


def _joined(parts: Sequence[list[dict[str, Floats]]], n_variants: int) -> list[dict[str, Floats]]:
    return [
        {name: np.concatenate([part[variant][name] for part in parts]) for name in parts[0][variant]}
        for variant in range(n_variants)
    ]
