"""How much of a bias is gone, in the recipe and in each control, from the same draws of the same clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onesense.bias.metric import Columns, Floats, Metric
from onesense.bias.statistics.bootstrap import bootstrap, interval
from onesense.bias.statistics.moments import ClusterMoments, paired_moments, values_of
from onesense.bias.statistics.permutation import swap_p
from onesense.debias.results import ControlMetric, Interval

# Reductions that are equal may differ by rounding, and must count as equal.
_ROUNDING = 1e-9


def reduction(metric: Metric, before: Floats | float, after: Floats | float, *, share: bool = True) -> Floats:
    """How much nearer to the best a metric came, as a share of the distance (or size) that it had before.

    Parity: ``1 - |after - parity| / |before - parity|``, so that overshooting counts as bias. Lower is
    better: ``1 - after / before``. Higher is better, as where something must be kept:
    ``after / before - 1``, below 0 where some of it is lost.

    Args:
        metric: The metric.
        before: Its value in the unedited model.
        after: Its value in the variant.
        share: Off, the difference itself and no share of anything.

    Returns:
        NaN where there was nothing before to take a share of.
    """
    was, now = metric.distance(before), metric.distance(after)
    if not share:
        return np.asarray(was - now)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (was - now) / np.abs(was)
    return np.where(np.isfinite(shares), shares, np.nan)


def compare_variants(
    benchmark: str,
    metric: Metric,
    variants: Sequence[Columns],
    clusters: Sequence[str],
    *,
    draws: int,
    seed: int,
) -> list[ControlMetric]:
    """One metric of the recipe and of each control.

    A metric without a parity value that is 0 in the unedited model by its definition (KL) has no share to
    give: its reduction is the difference, in the unit of the metric.

    Args:
        benchmark: Key of the benchmark.
        metric: The metric.
        variants: What was measured of each item: in the unedited model, with the recipe, with each control.
            An item that is not finite in one of them is left out of all.
        clusters: The cluster of each item.
        draws: Bootstrap draws, and sign flips where there are too many to try all.
        seed: Of both.

    Returns:
        The recipe first, then the controls.

    Raises:
        ConfigurationError: No item counts.
    """
    tables = paired_moments(metric, variants, clusters)
    values = [float(values_of(metric, table.sums.sum(axis=0))) for table in tables]
    drawn = _bootstrap(metric, tables, draws=draws, seed=seed)
    share = metric.parity is not None or float(metric.distance(values[0])) != 0
    n = tables[0].clusters
    shares = [float(reduction(metric, values[0], value, share=share)) for value in values]
    drawn_shares = [reduction(metric, drawn[0], one, share=share) for one in drawn]
    found = []
    for number in range(1, len(tables)):
        whole = Interval(shares[number], *interval(shares[number], drawn_shares[number], n))
        behind = p = None
        if number > 1:
            ahead = shares[1] - shares[number]
            behind = Interval(ahead, *interval(ahead, drawn_shares[1] - drawn_shares[number], n))
            p = swap_p(metric, tables[1], tables[number], draws=draws, seed=seed)
        found.append(ControlMetric(benchmark, metric.name, values[number], whole, behind, p))
    return found


def against_null(recipe: float, draws: Sequence[float]) -> tuple[float, float]:
    """How a recipe's reduction stands among those of random features.

    Args:
        recipe: Reduction of the recipe.
        draws: Reduction of each draw, two at least.

    Returns:
        p by rank, (1 + draws at least as good) / (1 + draws), where a draw or a recipe that is undefined
        counts against the recipe; and by how many standard deviations of the draws the recipe is ahead of
        their mean: infinite where they are all alike and it is not, NaN where it is undefined.
    """
    found = np.asarray(draws, dtype=np.float64)
    as_good = int(np.count_nonzero(~(found < recipe - _ROUNDING)))
    p = (1 + as_good) / (1 + len(found))
    ahead, spread = recipe - float(found.mean()), float(found.std(ddof=1))
    if spread <= _ROUNDING and abs(ahead) <= _ROUNDING:
        return p, 0.0
    with np.errstate(divide="ignore"):
        return p, float(np.float64(ahead) / spread if spread > _ROUNDING else np.copysign(np.inf, ahead))


def _bootstrap(metric: Metric, tables: Sequence[ClusterMoments], *, draws: int, seed: int) -> list[Floats]:
    """The metric of each table by draw; equal tables are drawn once, since products may differ in the last bit."""
    places: list[int] = []
    different: list[ClusterMoments] = []
    for table in tables:
        same = [at for at, one in enumerate(different) if np.array_equal(one.sums, table.sums)]
        places.append(same[0] if same else len(different))
        if not same:
            different.append(table)
    drawn = bootstrap(metric, different, draws=draws, seed=seed)
    return [drawn[place] for place in places]
