"""From measured variants to a proof: reductions, how far controls are behind, the null of random features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onesense.bias.measuring import Measured
from onesense.bias.metric import Columns
from onesense.debias.controls.calibrate import Calibrated
from onesense.debias.proof.measuring import MeasuredVariants
from onesense.debias.proof.reductions import against_null, compare_variants
from onesense.debias.proof.variants import IDENTITY, Variant
from onesense.debias.results import ControlMetric, ControlResult, Proof
from onesense.errors import ConfigurationError

# Below this many draws nothing can be said of how much random features vary.
_FEWEST_DRAWS = 2


def summarize(
    named: MeasuredVariants,
    random: MeasuredVariants | None,
    notes: Sequence[str],
    *,
    draws: int,
    seed: int,
    progress: Callable[[int, int | None], None],
) -> Proof:
    """The proof.

    Args:
        named: The recipe first, then its controls.
        random: Draws of random features, on the first of the benchmarks; None where there are none.
        notes: What a reader must know so far.
        draws: Bootstrap draws, and sign flips where there are too many to try all.
        seed: Of both.
        progress: Told how many benchmarks are done, and how many there are.
    """
    found = list(notes)
    metrics: list[list[ControlMetric]] = [[] for _ in named.variants]
    for number, one in enumerate(named.measured, start=1):
        for compared in _headlines(one, one.tables, found, draws=draws, seed=seed):
            for mine, metric in zip(metrics, compared, strict=True):
                mine.append(metric)
        progress(number, len(named.measured))
    controls = [
        _result(*row, named.target) for row in zip(named.variants, named.calibrated, metrics, strict=True)
    ]
    null: dict[str, tuple[float, float]] = {}
    if random is not None:
        drawn, null = _random(named.measured[0], random, draws=draws, seed=seed)
        controls += drawn
    found += _warnings(named, random)
    return Proof(tuple(controls), null, tuple(found))


def _headlines(
    measured: Measured, tables: Sequence[Columns], notes: list[str], *, draws: int, seed: int
) -> list[list[ControlMetric]]:
    """For each headline metric the recipe and each control."""
    clusters = [item.cluster for item in measured.items]
    key = measured.benchmark.key
    found = []
    for metric in measured.benchmark.metrics:
        if not metric.headline:
            continue
        try:
            found.append(compare_variants(key, metric, tables, clusters, draws=draws, seed=seed))
        except ConfigurationError as error:
            notes.append(f"{key}, {metric.title} was left out: {error.message}")
    return found


def _random(
    first: Measured, random: MeasuredVariants, *, draws: int, seed: int
) -> tuple[list[ControlResult], dict[str, tuple[float, float]]]:
    """Each draw against the recipe, and the recipe against all draws."""
    # The recipe was measured with the controls; its columns and those of the draws are of the same items.
    tables = [*first.tables[:2], *random.measured[0].tables[1:]]
    metrics: list[list[ControlMetric]] = [[] for _ in random.variants]
    null = {}
    for recipe, *drawn in _headlines(first, tables, [], draws=draws, seed=seed):
        for mine, metric in zip(metrics, drawn, strict=True):
            mine.append(metric)
        if len(drawn) >= _FEWEST_DRAWS:
            reductions = [metric.reduction.value for metric in drawn]
            null[f"{recipe.benchmark}/{recipe.metric}"] = against_null(recipe.reduction.value, reductions)
    rows = zip(random.variants, random.calibrated, metrics, strict=True)
    return [_result(*row, random.target) for row in rows], null


def _result(
    variant: Variant, at: Calibrated, metrics: Sequence[ControlMetric], target: float
) -> ControlResult:
    return ControlResult(
        name=variant.name,
        kind=variant.kind,
        edits=variant.edits,
        target_kl=target,
        kl=at.kl,
        reached=at.reached,
        strength=at.strength,
        metrics=tuple(metrics),
        note=" ".join(part for part in (variant.note, _at(variant, at, target)) if part),
    )


def _at(variant: Variant, at: Calibrated, target: float) -> str:
    """What a reader must know of a strength; nothing where the KL is the target's."""
    if at.reached or variant.fixed:
        return ""
    return f"At strength {at.strength:.3g} its KL is {at.kl:.2g}, and the target is {target:.2g}."


def _warnings(named: MeasuredVariants, random: MeasuredVariants | None) -> list[str]:
    notes = []
    missed = [
        variant.name
        for some in (named, random)
        if some is not None
        for variant, at in zip(some.variants, some.calibrated, strict=True)
        if not at.reached and not variant.fixed
    ]
    if missed:
        notes.append(f"Not at the KL of the others: {', '.join(missed)}.")
    silent = [
        variant.name
        for some in (named, random)
        if some is not None
        for variant, effect in zip(some.variants, some.effects, strict=True)
        if effect.positions == 0 and variant.name != IDENTITY
    ]
    if silent:
        notes.append(f"Changed no activation in any text of the benchmarks: {', '.join(silent)}.")
    return notes
