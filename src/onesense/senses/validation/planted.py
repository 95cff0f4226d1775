"""Planted senses: does the measured number of senses follow the true one?

The text is sae-lens's synthetic model (``sae_lens.synthetic``): features that fire together as a low-rank correlation
says, each with its own direction, in fewer dimensions than there are features. Units are made of 1 to 5 of them. The
space of contexts and the judge are fitted on a dictionary that is trained on the synthetic activations alone; it knows
neither the planted features nor how many there are. Features must fire together: where every feature is independent
of all others, the contexts of one feature have nothing in common, and no measure that looks at contexts sees a sense.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, spearmanr

from onesense.errors import ConfigurationError
from onesense.senses.activity import Firings, Floats
from onesense.senses.field_metrics.estimate import Estimate, check_draws
from onesense.senses.judge import halved_sizes
from onesense.senses.ruler import fit_ruler
from onesense.senses.sampling import sample_all
from onesense.senses.space import unit_rows
from onesense.senses.validation.auroc import interval
from onesense.senses.validation.ruler import count_senses
from onesense.senses.validation.synthetic import SyntheticSettings, SyntheticText, synthetic_text

# Nothing in a synthetic text is of form only; a few features fire at 2 to 4 % of its positions.
_MOST_DENSITY = 0.05


@dataclass(frozen=True, slots=True)
class PlantedSettings:
    """How the planted test is made.

    Attributes:
        synthetic: The synthetic model, its text, and the dictionary that is trained on it.
        most: Largest number of planted senses.
        units: Units of each number; from two senses on half of them have equal shares, half unequal ones.
        singles: Units of one planted sense that must be called single.
        contexts: Of each unit.
        draws: Bootstrap draws of units.
        seed: Of all draws.
    """

    synthetic: SyntheticSettings = field(default_factory=SyntheticSettings)
    most: int = 5
    units: int = 60
    singles: int = 200
    contexts: int = 128
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        check_draws(self.draws, self.seed)
        if not 2 <= self.most <= self.synthetic.features:
            raise ConfigurationError(
                f"The largest number of planted senses cannot be {self.most}; take 2 to 5."
            )
        if self.units < 2 or not self.units <= self.singles <= self.synthetic.features:
            raise ConfigurationError(
                f"{self.units} units of each number and {self.singles} single ones do not fit "
                f"{self.synthetic.features} planted features.",
                hint="Take at least 2 units, as many single ones or more, and at most one for each feature.",
            )


@dataclass(frozen=True, slots=True)
class PlantedNumber:
    """What was measured of units with one planted number of senses.

    Attributes:
        planted: The number.
        equal: Whether all senses have the same share of the activation.
        units: How many were measured.
        mean_number: Mean measured number of senses.
        mean_effective: Mean measured effective number.
        planted_effective: exp of the entropy of the planted shares.
    """

    planted: int
    equal: bool
    units: int
    mean_number: float
    mean_effective: float
    planted_effective: float


@dataclass(frozen=True, slots=True)
class PlantedTest:
    """What came out.

    Attributes:
        correlation: Spearman's rank correlation of planted and measured number, over units of every number alike.
        effective_correlation: The same of the effective numbers.
        single: Share of the single units that are called single, with Wilson's interval.
        numbers: By planted number and evenness.
        units: Units in the correlations.
        singles: Single units.
        fitted_on: What space and judge were fitted on, in words.
        fvu: Share of variance that the trained dictionary does not explain.
    """

    correlation: Estimate
    effective_correlation: Estimate
    single: Estimate
    numbers: tuple[PlantedNumber, ...]
    units: int
    singles: int
    fitted_on: str
    fvu: float


@dataclass(frozen=True, slots=True, eq=False)
class PlantedUnits:
    """Units made of planted features.

    Attributes:
        firings: Of the units.
        directions: What each writes, of norm 1, [units, d_model].
        features: The planted features that each is made of.
        shares: Of the activation, for each of them.
        equal: Whether a unit's shares are equal, [units].
    """

    firings: Firings
    directions: Floats
    features: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    equal: NDArray[np.bool_]


def planted_test(settings: PlantedSettings | None = None) -> PlantedTest:
    """Measure units with a known number of senses.

    Raises:
        ConfigurationError: Too few of the trained dictionary's features, or of the planted units, fire often enough.
    """
    settings = settings or PlantedSettings()
    text = synthetic_text(settings.synthetic, seed=settings.seed)
    units = plant_units(text, settings)
    reference = text.activity.firings["dictionary"]
    ruler = fit_ruler(
        text.activity,
        "dictionary",
        text.directions,
        sample_all(reference, settings.contexts, seed=settings.seed),
        sizes=halved_sizes(settings.contexts),
        seed=settings.seed,
        most_density=_MOST_DENSITY,
    )
    number, effective = count_senses(units.firings, units.directions, ruler, settings.contexts, settings.seed)
    planted = np.array([len(one) for one in units.shares])
    told = number > 0
    single = told & (planted == 1)
    ranked = told & ((planted > 1) | (np.arange(len(planted)) < settings.units))
    if single.sum() < 2 or len(np.unique(planted[ranked])) < settings.most:
        raise ConfigurationError(
            f"{int((~told).sum())} of {len(told)} planted units have fewer than the contexts that it takes.",
            hint="Take a longer synthetic text.",
        )
    truth = np.array([_effective(one) for one in units.shares])
    alone = binomtest(int((number[single] == 1).sum()), int(single.sum()))
    wilson = alone.proportion_ci(method="wilson")
    return PlantedTest(
        correlation=_correlation(
            planted[ranked].astype(np.float64), number[ranked].astype(np.float64), settings
        ),
        effective_correlation=_correlation(truth[ranked], effective[ranked], settings),
        single=Estimate(float(alone.statistic), float(wilson.low), float(wilson.high)),
        numbers=_by_number(planted, units.equal, truth, number, effective, told),
        units=int(ranked.sum()),
        singles=int(single.sum()),
        fitted_on=f"{ruler.features} features of a dictionary trained on the synthetic activations",
        fvu=text.fvu,
    )


def plant_units(text: SyntheticText, settings: PlantedSettings) -> PlantedUnits:
    """Units that fire where one of their planted features does, as often as the feature's share says.

    A feature's firings are thinned until its share of the unit's activation is the planted one. The unit writes the
    mean of its features' directions by share, the best that one direction can do.
    """
    generator = np.random.default_rng([settings.seed, 2])
    features = len(text.planted_directions)
    planted = text.activity.firings["planted"]
    # The smallest of 5 unequal shares is 0.1: of 128 contexts a sense keeps twelve.
    made: list[tuple[NDArray[np.intp], tuple[float, ...], bool]] = [
        (np.array([one]), (1.0,), True) for one in generator.permutation(features)[: settings.singles]
    ]
    for number in range(2, settings.most + 1):
        for unit in range(settings.units):
            weight = np.ones(number) if unit % 2 == 0 else np.arange(2.0, number + 2)
            chosen = generator.choice(features, number, replace=False)
            made.append((chosen, tuple((weight / weight.sum()).tolist()), unit % 2 == 0))
    positions, values = zip(
        *(_thinned(planted, chosen, share, generator) for chosen, share, _ in made), strict=True
    )
    pointer = np.concatenate([[0], np.cumsum([len(one) for one in positions])]).astype(np.int64)
    directions = [np.array(share) @ text.planted_directions[chosen] for chosen, share, _ in made]
    return PlantedUnits(
        Firings(pointer, np.concatenate(positions), np.concatenate(values)),
        unit_rows(np.stack(directions)),
        tuple(tuple(chosen.tolist()) for chosen, _, _ in made),
        tuple(share for _, share, _ in made),
        np.array([equal for _, _, equal in made]),
    )


def _thinned(
    planted: Firings, chosen: NDArray[np.intp], share: Sequence[float], generator: np.random.Generator
) -> tuple[NDArray[np.int32], Floats]:
    """Where a unit of these features fires, in order, and how much."""
    parts = [planted.of(int(feature)) for feature in chosen]
    mass = np.array([max(float(value.sum()), 1e-9) for _, value in parts])
    keep = np.array(share) / mass
    keep /= keep.max()
    kept = [generator.random(len(value)) < rate for (_, value), rate in zip(parts, keep, strict=True)]
    position = np.concatenate([place[one] for (place, _), one in zip(parts, kept, strict=True)])
    value = np.concatenate([found[one] for (_, found), one in zip(parts, kept, strict=True)])
    place, inverse = np.unique(position, return_inverse=True)
    return place.astype(np.int32), np.bincount(inverse, value, minlength=len(place)).astype(np.float32)


def _effective(share: Sequence[float]) -> float:
    chance = np.array(share)
    return float(np.exp(-(chance * np.log(chance)).sum()))


def _correlation(
    truth: NDArray[np.float64], found: NDArray[np.float64], settings: PlantedSettings
) -> Estimate:
    """Spearman's, NaN where all units were measured alike."""
    if len(np.unique(found)) < 2:
        return Estimate(float("nan"), float("nan"), float("nan"))
    generator = np.random.default_rng([settings.seed, 3])
    drawn = []
    for _ in range(settings.draws):
        rows = generator.integers(len(truth), size=len(truth))
        if len(np.unique(truth[rows])) > 1 and len(np.unique(found[rows])) > 1:
            drawn.append(spearmanr(truth[rows], found[rows]).statistic)
    return interval(float(spearmanr(truth, found).statistic), np.array(drawn))


def _by_number(
    planted: NDArray[np.int64],
    equal: NDArray[np.bool_],
    truth: NDArray[np.float64],
    number: NDArray[np.int64],
    effective: NDArray[np.float64],
    told: NDArray[np.bool_],
) -> tuple[PlantedNumber, ...]:
    rows = []
    for senses in np.unique(planted):
        for even in (True, False):
            these = told & (planted == senses) & (equal == even)
            if these.any():
                rows.append(
                    PlantedNumber(
                        int(senses),
                        even,
                        int(these.sum()),
                        float(number[these].mean()),
                        float(effective[these].mean()),
                        float(truth[these][0]),
                    )
                )
    return tuple(rows)
