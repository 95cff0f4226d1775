"""Measure benchmarks shard by shard into a run folder, so that an interrupted audit goes on where it stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onesense.bias.benchmark import Benchmark, Item, ScoredBenchmark
from onesense.bias.metric import Floats
from onesense.bias.scoring.requests import Scorer
from onesense.bias.scoring.scorer import ModelScorer, PrefixMemory, ScoringSettings
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

    Raises:
        OnesenseError: Scoring failed; the message names the benchmark.
    """
    earlier = earlier or Earlier()
    total = sum(len(reading.items) for reading in readings)
    plans = [plan_shards(len(reading.items), ITEMS_PER_SHARD) for reading in readings]
    done = first = 0
    effects = np.zeros((scorer.n_variants, 2))
    measured = []
    for reading, shards in zip(readings, plans, strict=True):
        parts = []
        elsewhere = earlier.shards(reading, scorer)
        for shard in shards:
            tensors = run.read_shard(first + shard.index)
            if tensors is None:
                known = earlier.read(elsewhere, shard)
                tensors = _measure_shard(reading, shard, scorer, known, earlier.variants, unchanged)
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
