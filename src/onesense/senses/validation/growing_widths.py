"""Do wider dictionaries have features of fewer senses, as feature splitting says (Bricken et al. 2023)?

Dictionaries of one hook point are measured on one text with one ruler, fitted on one of them: with a ruler of its own
for each, the ruler would change with the width. All units have the same number of contexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.senses.activity import Activity, Firings, Floats
from onesense.senses.field_metrics.estimate import Estimate, check_draws
from onesense.senses.judge import SMALLEST_SET, halved_sizes
from onesense.senses.ruler import Ruler, fit_ruler
from onesense.senses.sampling import sample_all
from onesense.senses.unit_sets import UnitSet
from onesense.senses.validation.auroc import interval
from onesense.senses.validation.ruler import check_documents, count_senses


@dataclass(frozen=True, slots=True)
class WidthSettings:
    """How widths are compared.

    Attributes:
        units: Features measured of each dictionary at most, drawn from those with enough contexts.
        contexts: Of each; features that fire in fewer places are left out.
        draws: Bootstrap draws of features.
        seed: Of all draws.
    """

    units: int = 1000
    contexts: int = 64
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        check_draws(self.draws, self.seed)
        if self.contexts < SMALLEST_SET or self.units < 2:
            raise ConfigurationError(
                f"{self.units} features of {self.contexts} contexts say nothing.",
                hint=f"Take at least 2 features and {SMALLEST_SET} contexts.",
            )


@dataclass(frozen=True, slots=True)
class WidthResult:
    """What was measured of one dictionary.

    Attributes:
        name: Of its unit set.
        width: Features.
        eligible: Those with enough contexts.
        units: Those measured.
        median_density: Median share of positions at which a measured feature fires.
        effective: Mean effective number of senses.
        several: Share with more than one sense.
        quartiles: Of the effective number.
    """

    name: str
    width: int
    eligible: int
    units: int
    median_density: float
    effective: Estimate
    several: Estimate
    quartiles: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class GrowingWidths:
    """Dictionaries of one hook point, narrowest first.

    Attributes:
        reference: Name of the set on which space and judge were fitted.
        contexts: Of each feature.
        widths: What was measured of each.
    """

    reference: str
    contexts: int
    widths: tuple[WidthResult, ...]


def growing_widths(
    activity: Activity,
    unit_sets: Sequence[UnitSet],
    reference: str,
    settings: WidthSettings | None = None,
) -> GrowingWidths:
    """Measure the senses of dictionaries of several widths.

    Args:
        activity: One text, with the firings of all of them.
        unit_sets: Features of each dictionary, at the hook point of the activity.
        reference: Name of the set to fit on.
        settings: How many features and contexts.

    Raises:
        IncompatibleError: Different hook points, or the activity lacks one of the sets.
        ConfigurationError: Fewer than two sets, no such reference, too few features with enough contexts, or one
            document only.
    """
    settings = settings or WidthSettings()
    named = _checked(activity, unit_sets, reference)
    check_documents(activity)
    ruler = fit_ruler(
        activity,
        reference,
        _directions(named[reference]),
        sample_all(activity.firings[reference], settings.contexts, seed=settings.seed),
        sizes=halved_sizes(settings.contexts),
        seed=settings.seed,
    )
    ordered = sorted(unit_sets, key=lambda units: units.n_units)
    return GrowingWidths(
        reference, settings.contexts, tuple(_measured(activity, one, ruler, settings) for one in ordered)
    )


def _checked(activity: Activity, unit_sets: Sequence[UnitSet], reference: str) -> dict[str, UnitSet]:
    """The sets by name."""
    named = {one.name: one for one in unit_sets}
    if len(named) < 2 or len(named) < len(unit_sets) or reference not in named:
        raise ConfigurationError(
            f"Widths are compared between two or more sets of different names, one of them `{reference}`; given: "
            f"{', '.join(one.name for one in unit_sets) or 'none'}."
        )
    points = {str(one.dictionary.hook_point) for one in unit_sets}
    if len(points) > 1:
        raise IncompatibleError(
            f"The dictionaries read different places: {', '.join(sorted(points))}.",
            hint="Compare widths at one hook point.",
        )
    missing = [name for name in named if name not in activity.firings]
    if missing:
        raise IncompatibleError(
            f"The text was read without {', '.join(missing)}.", hint="Read it with all of them."
        )
    return named


def _measured(activity: Activity, one: UnitSet, ruler: Ruler, settings: WidthSettings) -> WidthResult:
    firings = activity.firings[one.name]
    # A draw takes one context of each stretch: how many a feature has is known after it only.
    have = [len(sample) for sample in sample_all(firings, settings.contexts, seed=settings.seed)]
    eligible = np.flatnonzero(np.array(have) == settings.contexts)
    if len(eligible) < 2:
        raise ConfigurationError(
            f"{len(eligible)} features of {one.name} have {settings.contexts} contexts.",
            hint="Read more text, or take fewer contexts.",
        )
    chosen = np.sort(np.random.default_rng(settings.seed).permutation(eligible)[: settings.units])
    number, effective = count_senses(
        _some(firings, chosen), _directions(one)[chosen], ruler, settings.contexts, settings.seed
    )
    density = firings.count[chosen] / len(activity)
    return _result(one, len(eligible), density, number, effective, settings)


def _directions(one: UnitSet) -> Floats:
    return np.ascontiguousarray(one.directions.float().cpu().numpy())


def _some(firings: Firings, chosen: NDArray[np.intp]) -> Firings:
    parts = [firings.of(int(unit)) for unit in chosen]
    pointer = np.concatenate([[0], np.cumsum([len(place) for place, _ in parts])]).astype(np.int64)
    return Firings(
        pointer, np.concatenate([place for place, _ in parts]), np.concatenate([value for _, value in parts])
    )


def _result(
    one: UnitSet,
    eligible: int,
    density: NDArray[np.float64],
    number: NDArray[np.int64],
    effective: NDArray[np.float64],
    settings: WidthSettings,
) -> WidthResult:
    units = len(number)
    rows = np.random.default_rng([settings.seed, units]).integers(units, size=(settings.draws, units))
    several = (number > 1).astype(np.float64)
    low, middle, high = (float(one) for one in np.quantile(effective, [0.25, 0.5, 0.75]))
    return WidthResult(
        name=one.name,
        width=one.n_units,
        eligible=eligible,
        units=units,
        median_density=float(np.median(density)),
        effective=interval(float(effective.mean()), effective[rows].mean(axis=1)),
        several=interval(float(several.mean()), several[rows].mean(axis=1)),
        quartiles=(low, middle, high),
    )
