"""Units with one sense against units with several that carry as much bias: what each group removes at equal KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onesense.bias.benchmark import Benchmark
from onesense.bias.data.folder import recording
from onesense.bias.measuring import Measured, Reading, read_items
from onesense.bias.scoring.scorer import ModelScorer
from onesense.bias.statistics.family import holm
from onesense.debias.controls.documents import calibration_requests
from onesense.debias.divergence import KlMeter
from onesense.debias.proof.equal_cost import TOLERANCE, at_equal_cost
from onesense.debias.proof.measuring import EqualTerms, measure_variants
from onesense.debias.proof.reductions import compare_variants
from onesense.debias.proof.variants import Variant
from onesense.debias.results import ControlMetric, Interval
from onesense.engine.stages import Stages
from onesense.errors import ConfigurationError, NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.steer.apply import Edits
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.store.run_folder import RunFolder
from onesense.study.relation import Finding, finding_of
from onesense.study.units import Floats, UnitTable

GROUP = "group"
# A measurement takes seconds on a processor, and each group needs a few.
_PASSAGES, _TOKENS = 12, 48
_TOLERANCE = 1.01 * TOLERANCE  # and rounding


@dataclass(frozen=True, slots=True)
class Pair:
    """Two groups of units of one set, matched in bias, unit by unit.

    Attributes:
        unit_set: Name of the set.
        single: Units with one sense.
        several: Units with more than one; the n-th belongs to the n-th of ``single``.
    """

    unit_set: str
    single: tuple[int, ...]
    several: tuple[int, ...]

    @property
    def size(self) -> int:
        """Units of each group."""
        return len(self.single)


@dataclass(frozen=True, slots=True)
class Group:
    """One of two groups, brought to the KL of both.

    Attributes:
        units: Its units.
        effective: Their mean effective number of senses.
        bias: Their mean bias, nats.
        density: Their mean firing rate.
        strength: Share of each latent that is taken away: 1 is all of it.
        kl: KL at this strength, nats per token.
        reached: Whether that is the KL of both, within the tolerance.
    """

    units: tuple[int, ...]
    effective: float
    bias: float
    density: float
    strength: float
    kl: float
    reached: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """One held-out metric of both groups.

    Attributes:
        benchmark: Key of the benchmark.
        metric: Key of the metric.
        title: Both for a reader.
        single: Share of the bias that is gone (below 0 for facts: share that is lost) with the one-sense group.
        several: The same with the other.
        difference: The first less the second, cluster bootstrap paired by item.
        p: Sign-flip permutation p of the difference.
        p_holm: The same after Holm's correction over all of them; None before that.
    """

    benchmark: str
    metric: str
    title: str
    single: Interval
    several: Interval
    difference: Interval
    p: float
    p_holm: float | None = None

    @property
    def finding(self) -> Finding:
        """Related where units with several senses do more, opposite where those with one do."""
        turned = Interval(-self.difference.value, -self.difference.high, -self.difference.low)
        return finding_of(turned, self.p if self.p_holm is None else self.p_holm)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two groups at equal KL.

    Attributes:
        unit_set: Name of the set.
        size: Units of each group.
        target_kl: KL of both, nats per token.
        single: Units with one sense.
        several: Units with more than one.
        differences: What was measured.
    """

    unit_set: str
    size: int
    target_kl: float
    single: Group
    several: Group
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How groups are compared.

    Attributes:
        sizes: Units of each group.
        kl: KL that groups are brought to, nats per token; less where ablating them whole does less.
        benchmarks: Held-out and guard benchmarks.
        draws: Bootstrap draws, and sign flips where there are too many to try all.
        seed: Of both.
    """

    sizes: tuple[int, ...]
    kl: float
    benchmarks: tuple[Benchmark, ...]
    draws: int
    seed: int


def matched_pair(units: UnitTable, size: int) -> Pair | None:
    """Groups of equal size of one-sense and of polysemantic units that carry as much bias.

    The kind of which there are fewer gives its units of largest bias; each, the largest first, takes the unit of
    the other kind that is nearest to it in the logarithm of bias and not yet taken.

    Args:
        units: The units.
        size: Units of each group.

    Returns:
        None where there are too few of a kind that carry bias and cost KL.
    """
    acts = (units.bias > 0) & (units.kl > 0)
    kinds = [np.flatnonzero(acts & (units.number == 1)), np.flatnonzero(acts & (units.number > 1))]
    fewer = 0 if len(kinds[0]) < len(kinds[1]) else 1
    if size < 1 or len(kinds[fewer]) < size:
        return None
    anchors = kinds[fewer][np.argsort(-units.bias[kinds[fewer]], kind="stable")[:size]]
    chosen = [anchors, _nearest(units.bias, anchors, kinds[1 - fewer])]
    single, several = chosen if fewer == 0 else chosen[::-1]
    return Pair(units.name, tuple(single.tolist()), tuple(several.tolist()))


def _nearest(bias: Floats, anchors: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    free = np.ones(len(others), dtype=np.bool_)
    taken = []
    for anchor in anchors:
        distance = np.where(free, np.abs(np.log(bias[others] / bias[anchor])), np.inf)
        best = int(distance.argmin())
        free[best] = False
        taken.append(others[best])
    return np.asarray(taken, dtype=np.int64)


def compare_groups(
    model: LanguageModel,
    tables: Sequence[UnitTable],
    dictionaries: Mapping[str, Dictionary],
    run: RunFolder,
    settings: GroupSettings,
    stages: Stages,
) -> tuple[list[Comparison], list[str]]:
    """Every pair of groups on held-out data; what the run holds is not measured again.

    Args:
        model: The model.
        tables: What is known of the units, set by set.
        dictionaries: Of each set, by its name.
        run: Where strengths are kept, and scores in a folder of their own; write-locked by the caller.
        settings: Which groups, on what.
        stages: Told about progress.

    Returns:
        The comparisons, and what a reader must know of those that were left out.

    Raises:
        NotFoundError: No benchmark has its data.
        NumericalError: Logits are NaN.
        LockedError: Another process writes there.
    """
    pairs, notes = _pairs(tables, settings.sizes)
    if not pairs:
        return [], notes
    with stages.stage("Reading benchmarks", "sets"), recording() as data:
        readings, skipped = read_items(settings.benchmarks, ModelScorer(model))
    notes += [f"{key} was left out: {why}" for key, why in skipped.items()]
    if not readings:
        raise NotFoundError("None of the benchmarks has its data.", hint="onesense data get --all")
    texts = calibration_requests(model, passages=_PASSAGES, tokens=_TOKENS)
    terms = EqualTerms(model, KlMeter(model, texts), settings.kl, data, settings.seed, stages)
    brought, silent = _brought(terms, pairs, dictionaries, run, settings.kl)
    notes += silent
    if not brought:
        return [], notes
    known = {one.name: one for one in tables}
    measured = _score(terms, brought, dictionaries, run, readings, settings.kl)
    found = [
        Comparison(
            pair.unit_set,
            pair.size,
            target,
            _group(known[pair.unit_set], pair.single, at[0], target),
            _group(known[pair.unit_set], pair.several, at[1], target),
            _differences(measured, number, settings),
        )
        for number, (pair, target, at) in enumerate(brought)
    ]
    return _corrected(found), notes


_Brought = tuple[Pair, float, list[tuple[float, float]]]


def _pairs(tables: Sequence[UnitTable], sizes: Sequence[int]) -> tuple[list[Pair], list[str]]:
    pairs, notes = [], []
    for units in tables:
        for size in sizes:
            pair = matched_pair(units, size)
            if pair is None:
                notes.append(
                    f"{units.name}: there are no groups of {size}, since fewer units with one sense or with "
                    "several carry bias."
                )
            else:
                pairs.append(pair)
    return pairs, notes


def _brought(
    terms: EqualTerms,
    pairs: Sequence[Pair],
    dictionaries: Mapping[str, Dictionary],
    run: RunFolder,
    most: float,
) -> tuple[list[_Brought], list[str]]:
    """The KL of each pair, and strength and KL of both groups there."""
    found, notes = [], []
    with terms.stages.stage("Equal KL", "pairs") as progress:
        for number, pair in enumerate(pairs):
            name = f"strengths/pair-{number:04d}"
            if not run.has_result(name):
                run.write_result(name, {"found": _at_one_kl(terms.meter, pair, dictionaries, most)})
            target, *rest = run.read_result(name)["found"].tolist()
            if target > 0:
                found.append((pair, target, [(rest[0], rest[1]), (rest[2], rest[3])]))
            else:
                notes.append(
                    f"{pair.unit_set}: groups of {pair.size} were left out, since one of them changes nothing on "
                    "ordinary text."
                )
            progress(number + 1, len(pairs))
    return found, notes


def _at_one_kl(
    meter: KlMeter, pair: Pair, dictionaries: Mapping[str, Dictionary], most: float
) -> NDArray[np.float64]:
    """The KL of both, then strength and KL of each; zeros where one of them does nothing."""
    variants = [_variant(dictionaries[pair.unit_set], units, "") for units in (pair.single, pair.several)]
    # What both can reach without turning a latent negative.
    target = min(most, *(meter.measure(one.group(1.0)) for one in variants))
    if target <= 0:
        return np.zeros(5)
    at = [at_equal_cost(one, meter, target) for one in variants]
    return np.array([target, at[0].strength, at[0].kl, at[1].strength, at[1].kl])


def _variant(dictionary: Dictionary, units: Sequence[int], name: str, *, strength: float = 1.0) -> Variant:
    """Units with a common share of their latents taken away; the share is multiplied by ``strength``."""

    def group(share: float) -> Edits:
        edits = [Edit(feature=unit, operation=Operation.SCALE, value=1 - share * strength) for unit in units]
        return [EditGroup(dictionary, edits)]

    return Variant(name, GROUP, len(units), group, fixed=bool(name))


def _score(
    terms: EqualTerms,
    brought: Sequence[_Brought],
    dictionaries: Mapping[str, Dictionary],
    run: RunFolder,
    readings: Sequence[Reading],
    target: float,
) -> Sequence[Measured]:
    """The unedited model and all groups, each at its own strength."""
    variants = [
        _variant(
            dictionaries[pair.unit_set],
            units,
            f"{pair.unit_set}, {pair.size} with {what}",
            strength=strength,
        )
        for pair, _target, at in brought
        for units, what, (strength, _kl) in zip(
            (pair.single, pair.several), ("one sense", "several"), at, strict=True
        )
    ]
    folder = run.path / "groups"
    return measure_variants(terms, folder, variants, readings, title="groups", target=target).measured


def _group(units: UnitTable, chosen: Sequence[int], at: tuple[float, float], target: float) -> Group:
    rows = list(chosen)
    strength, kl = at
    return Group(
        units=tuple(chosen),
        effective=float(units.effective[rows].mean()),
        bias=float(units.bias[rows].mean()),
        density=float(units.density[rows].mean()),
        strength=strength,
        kl=kl,
        reached=abs(kl - target) <= _TOLERANCE * target,
    )


def _differences(
    measured: Sequence[Measured], number: int, settings: GroupSettings
) -> tuple[Difference, ...]:
    found = []
    for one in measured:
        clusters = [item.cluster for item in one.items]
        tables = [one.tables[0], *one.tables[1 + 2 * number : 3 + 2 * number]]
        for metric in one.benchmark.metrics:
            if not metric.headline:
                continue
            try:
                single, several = compare_variants(
                    one.benchmark.key, metric, tables, clusters, draws=settings.draws, seed=settings.seed
                )
            except ConfigurationError:
                continue  # the metric counts none of the items: there is nothing to tell of it
            found.append(_difference(f"{one.benchmark.title}: {metric.title}", single, several))
    return tuple(found)


def _difference(title: str, single: ControlMetric, several: ControlMetric) -> Difference:
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    return Difference(
        single.benchmark,
        single.metric,
        title,
        single.reduction,
        several.reduction,
        several.behind or nothing,
        1.0 if several.p is None else several.p,
    )


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    values = iter(holm([one.p for comparison in found for one in comparison.differences]))
    return [
        replace(
            comparison,
            differences=tuple(replace(one, p_holm=next(values)) for one in comparison.differences),
        )
        for comparison in found
    ]
