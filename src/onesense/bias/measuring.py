"""Measure benchmarks shard by shard into a run folder, so that an interrupted audit goes on where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onesense.bias.benchmark import Benchmark, Item, ScoredBenchmark
from onesense.bias.metric import Floats
from onesense.bias.scoring.prefix_memory import PrefixMemory
from onesense.bias.scoring.requests import Scorer
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.engine.executor import Executor, LocalExecutor, Shard, plan_shards
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


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What was measured in another run of the same model, and need not be measured again.

    Attributes:
        run: Where its shards are.
        readings: Its benchmarks, in the order of the shards.
        recipes: What its variants are: the content hash of a recipe, or None for the unedited model.
        model: Fingerprint and number format of the model.
        scoring: How texts were scored.
        memory: Hidden states that were kept on the way.
    """

    run: RunFolder
    readings: Sequence[Reading]
    recipes: Sequence[str | None]
    model: tuple[str, str]
    scoring: ScoringSettings
    memory: PrefixMemory


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """Variants of a scorer that were measured in another run.

    Attributes:
        scored: That run.
        variants: Numbers of variants of the scorer, each with its number there.
    """

    scored: Scored | None = None
    variants: Mapping[int, int] = field(default_factory=dict)

    def shards(self, reading: Reading, scorer: ModelScorer) -> range:
        """Where the shards of a benchmark are in the other run; empty where they do not say what the scorer would.

        Only log-probabilities of a variant do not depend on which others are measured with it, and the last bit of
        those does where no variant is edited or texts are run one by one.
        """
        scored = self.scored
        model = (scorer.model.fingerprint, str(scorer.model.dtype))
        if (
            scored is None
            or not self.variants
            or len(self.variants) == scorer.n_variants
            or not any(scored.recipes)
            or (scored.model, scored.scoring) != (model, scorer.settings)
            or not scorer.shares_prefixes
            or not isinstance(reading.benchmark, ScoredBenchmark)
        ):
            return range(0)
        first = 0
        for other in scored.readings:
            count = len(plan_shards(len(other.items), ITEMS_PER_SHARD))
            if (other.benchmark.key, other.identity) == (reading.benchmark.key, reading.identity):
                return range(first, first + count)
            first += count
        return range(0)

    def read(self, shards: range, shard: Shard) -> dict[str, Floats] | None:
        """What the other run has of a shard; None where there is nothing, or it is damaged."""
        return self.scored.run.read_shard(shards[shard.index]) if self.scored is not None and shards else None


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
    *,
    earlier: Earlier | None = None,
    unchanged: Sequence[int] = (),
    executor: Executor | None = None,
) -> tuple[list[Measured], list[Effect]]:
    """Measure every benchmark, shard by shard; shards that the run folder holds are not measured again.

    The results are the same bytes with and without ``earlier``.

    Args:
        readings: What to measure.
        scorer: The model in its variants.
        run: Where shards are kept; it is locked by the caller.
        progress: Told how many items are done, and how many there are.
        earlier: Variants that another run measured: where it has a benchmark, only the others are run.
        unchanged: Variants that give the logits of variant 0: its columns are theirs, and they are not run.
        executor: Where shards are measured; None: here.

    Raises:
        OnesenseError: Scoring failed; the message names the benchmark.
    """
    work = _ShardWork(readings, scorer, (earlier or Earlier()).variants, unchanged)
    plan = _Plan(readings, scorer, run, earlier or Earlier())
    total = sum(len(reading.items) for reading in readings)
    done = 0
    effects = np.zeros((scorer.n_variants, 2))
    parts: list[list[list[dict[str, Floats]]]] = [[] for _ in readings]
    for task, tensors in plan.results(work, executor or LocalExecutor()):
        effect = tensors.pop(_EFFECT)
        effects = np.stack([effects[:, 0] + effect[:, 0], np.maximum(effects[:, 1], effect[:, 1])], axis=1)
        parts[task.reading].append(_from_tensors(tensors, scorer.n_variants))
        done += len(task.shard)
        progress(done, total)
    measured = [
        Measured(reading.benchmark, reading.items, _joined(of_it, scorer.n_variants))
        for reading, of_it in zip(readings, parts, strict=True)
    ]
    return measured, [Effect(int(positions), float(dose)) for positions, dose in effects]


@dataclass(frozen=True, slots=True)
class _Task:
    """A shard of a benchmark: which, where it is kept, and what another run has of it."""

    reading: int
    shard: Shard
    kept: int
    known: dict[str, Floats] | None = None


@dataclass(frozen=True, slots=True)
class _ShardWork:
    """Measures a shard; can be sent to another process."""

    readings: Sequence[Reading]
    scorer: ModelScorer
    variants: Mapping[int, int]
    unchanged: Sequence[int]

    def __call__(self, task: _Task) -> dict[str, Floats]:
        return _measure_shard(
            self.readings[task.reading], task.shard, self.scorer, task.known, self.variants, self.unchanged
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """The shards of all benchmarks, planned before any is measured, and what of them is there."""

    readings: Sequence[Reading]
    scorer: ModelScorer
    run: RunFolder
    earlier: Earlier

    def tasks(self) -> Iterator[_Task]:
        """Every shard, in the order in which they are kept."""
        kept = 0
        for number, reading in enumerate(self.readings):
            for shard in plan_shards(len(reading.items), ITEMS_PER_SHARD):
                yield _Task(number, shard, kept)
                kept += 1

    def results(self, work: _ShardWork, executor: Executor) -> Iterator[tuple[_Task, dict[str, Floats]]]:
        """The columns of every shard in order; those that are not there are measured and kept."""
        there = [(task, self.run.read_shard(task.kept)) for task in self.tasks()]
        measured = executor.map_shards(work, self._missing(task for task, found in there if found is None))
        for task, found in there:
            tensors = found
            if tensors is None:
                tensors = next(measured)
                self.run.write_shard(task.kept, tensors)
            yield task, tensors

    def _missing(self, tasks: Iterable[_Task]) -> Iterator[_Task]:
        """Tasks with what another run has of them."""
        elsewhere: dict[int, range] = {}
        for task in tasks:
            if task.reading not in elsewhere:
                elsewhere[task.reading] = self.earlier.shards(self.readings[task.reading], self.scorer)
            yield replace(task, known=self.earlier.read(elsewhere[task.reading], task.shard))


def _measure_shard(
    reading: Reading,
    shard: Shard,
    scorer: ModelScorer,
    known: dict[str, Floats] | None,
    variants: Mapping[int, int],
    unchanged: Sequence[int],
) -> dict[str, Floats]:
    """The columns of each variant and what its edits did.

    Those of ``variants`` are taken from ``known``, and those of ``unchanged`` are the columns of variant 0.
    """
    taken = variants if known is not None else {}
    rest = [number for number in range(scorer.n_variants) if number not in taken and number not in unchanged]
    if len(rest) < scorer.n_variants:
        scorer = scorer.only(rest)
    scorer.take_effects()  # a shard's bytes do not depend on what was scored before it
    try:
        tables = reading.benchmark.measure(reading.items[shard.start : shard.stop], scorer)
    except OnesenseError as error:
        raise type(error)(f"{reading.benchmark.key}: {error.message}", hint=error.hint) from error
    tensors = {
        f"{variant}/{name}": np.ascontiguousarray(column, dtype=np.float64)
        for variant, table in zip(rest, tables, strict=True)
        for name, column in table.items()
    }
    effects = dict(zip(rest, scorer.take_effects(), strict=True))
    if known is not None:
        for variant, there in taken.items():
            start = f"{there}/"
            tensors |= {
                f"{variant}/{name.removeprefix(start)}": column
                for name, column in known.items()
                if name.startswith(start)
            }
            effects[variant] = tuple(known[_EFFECT][there].tolist())
    for variant in unchanged:
        tensors |= {f"{variant}/{name[2:]}": column for name, column in tensors.items() if name[:2] == "0/"}
        effects[variant] = (0, 0.0)
    return {**tensors, _EFFECT: np.array([effects[number] for number in sorted(effects)], dtype=np.float64)}


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
