"""The recipe beside its controls: who is compared with whom, and who does as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from onesense.debias.results import ControlMetric, ControlResult, DebiasResult, Proof

RECIPE = "recipe"
RANDOM = "random"
_SAME_COST = 1e-9

MetricKey = tuple[str, str]
"""Keys of benchmark and metric."""


class Standing(StrEnum):
    """How a control does against the recipe, in the words of a sentence."""

    AHEAD = "did better"
    TIED = "did as well, as far as the data tell"
    BEHIND = "did less"
    UNKNOWN = "cannot be compared"


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """What was brought to one cost.

    Attributes:
        target_kl: The cost: KL divergence per token, nats.
        recipe: The recipe at that cost; None where it was not measured there.
        peers: Controls that are no draws of random features.
        draws: Draws of random features.
    """

    target_kl: float
    recipe: ControlResult | None
    peers: tuple[ControlResult, ...]
    draws: tuple[ControlResult, ...]

    @property
    def members(self) -> tuple[ControlResult, ...]:
        """The recipe, if it is there, then peers, then draws."""
        return (() if self.recipe is None else (self.recipe,)) + self.peers + self.draws


def control_groups(proof: Proof | None) -> list[ControlGroup]:
    """Controls by the KL divergence that they were brought to, in the order of the proof."""
    gathered: list[list[ControlResult]] = []
    for control in () if proof is None else proof.controls:
        for group in gathered:
            if _same(group[0].target_kl, control.target_kl):
                group.append(control)
                break
        else:
            gathered.append([control])
    return [_group(members) for members in gathered]


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=_SAME_COST) or (
        math.isnan(one) and math.isnan(other)
    )


def _group(members: Sequence[ControlResult]) -> ControlGroup:
    return ControlGroup(
        target_kl=members[0].target_kl,
        recipe=next((one for one in members if one.kind == RECIPE), None),
        peers=tuple(one for one in members if one.kind not in (RECIPE, RANDOM)),
        draws=tuple(one for one in members if one.kind == RANDOM),
    )


def metric_keys(proof: Proof | None) -> list[MetricKey]:
    """Every metric that recipe or controls were measured on, in order."""
    controls = () if proof is None else proof.controls
    return list(dict.fromkeys((m.benchmark, m.metric) for control in controls for m in control.metrics))


def headline_metrics(result: DebiasResult) -> list[MetricKey]:
    """The headline metrics of the first benchmark; all of its metrics where no audit says which are."""
    keys = metric_keys(result.proof)
    first = [key for key in keys if key[0] == keys[0][0]]
    benchmarks = result.audit.benchmarks if result.audit else []
    headline = {
        (benchmark.key, metric.name)
        for benchmark in benchmarks
        for metric in benchmark.metrics
        if metric.headline
    }
    return [key for key in first if key in headline] or first


def metric_of(control: ControlResult, key: MetricKey) -> ControlMetric | None:
    """What a control reached on a metric; None where it was not measured."""
    return next((one for one in control.metrics if (one.benchmark, one.metric) == key), None)


def standing_of(control: ControlResult, key: MetricKey) -> Standing:
    """How a control does against the recipe: ahead or behind only where the interval says so."""
    metric = metric_of(control, key)
    if metric is None or metric.behind is None:
        return Standing.UNKNOWN
    low, high = metric.behind.low, metric.behind.high
    if math.isnan(low) or math.isnan(high):
        return Standing.UNKNOWN
    if low > 0:
        return Standing.BEHIND
    return Standing.AHEAD if high < 0 else Standing.TIED
