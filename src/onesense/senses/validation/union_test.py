"""The union test: are the contexts of two features, put together, told from those of one?

The truth is known because we made it: two features drawn at random hardly ever mean the same. Neither the space of
contexts nor the judge sees a feature of the test while it is fitted. From the contexts of a union the mean of
both features' directions is taken out, as a unit with both senses would write it, and neither feature counts as firing
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.senses.activity import Activity, Floats
from onesense.senses.field_metrics.estimate import Estimate, check_draws
from onesense.senses.judge import SMALLEST_SET, union_direction
from onesense.senses.ruler import Ruler, fit_ruler
from onesense.senses.sampling import Sample, sample_all, united
from onesense.senses.unit_sets import UnitSet
from onesense.senses.validation.auroc import PairScores, auroc, drawn_aurocs, interval
from onesense.senses.validation.cheap_scores import (
    CONTEXT_SCORES,
    DECODER_COSINE,
    LENS_KURTOSIS,
    context_scores,
    largest_decoder_cosine,
    lens_kurtosis,
)
from onesense.senses.validation.ruler import check_documents

OURS = "number of senses"
_FEWEST_PAIRS = 20
# Space and judge are fitted on what is left.
_LEFT_FOR_FITTING = 64
_PAIRS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class UnionSettings:
    """How the union test is made.

    Attributes:
        pairs: Pairs of features wanted.
        contexts: Of each set, as many for a union as for a single feature.
        most_density: Only features that fire at a smaller share of the positions.
        shares: Of the contexts of a union, those of its first feature.
        draws: Bootstrap draws of pairs.
        seed: Of all draws.
    """

    pairs: int = 600
    contexts: int = 128
    most_density: float = 0.02
    shares: tuple[float, ...] = (0.5, 0.25)
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        check_draws(self.draws, self.seed)
        if self.contexts < SMALLEST_SET:
            raise ConfigurationError(
                f"{self.contexts} contexts are too few to judge; take {SMALLEST_SET} or more."
            )
        if self.pairs < _FEWEST_PAIRS:
            raise ConfigurationError(f"{self.pairs} pairs say nothing; take {_FEWEST_PAIRS} or more.")
        if not self.shares or not all(0 < share <= 0.5 for share in self.shares):
            raise ConfigurationError("The share of a union's first feature lies above 0 and at most at 0.5.")


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """How well one score tells unions of one proportion.

    Attributes:
        name: Of the score.
        share: Of the first feature's contexts in a union.
        auroc: 0.5 is chance, 1 is perfect.
        sign: -1 where unions score lower.
        lead: AUROC of ours minus this one's, on the same draws; None for ours.
    """

    name: str
    share: float
    auroc: Estimate
    sign: int
    lead: Estimate | None


@dataclass(frozen=True, slots=True)
class UnionTest:
    """What came out.

    Attributes:
        pairs: Pairs of features; each feature is in one pair only.
        wanted: Pairs asked for; there are fewer where too few features fire often enough.
        contexts: Of each set.
        features: Features on which the judge was fitted; none is in a pair.
        scores: Ours first, then the cheap ones, for each share.
        left_out: Cheap scores that were not computed, and why.
    """

    pairs: int
    wanted: int
    contexts: int
    features: int
    scores: tuple[ScoreResult, ...]
    left_out: dict[str, str]

    def of(self, share: float) -> tuple[ScoreResult, ...]:
        """Results for one proportion, ours first."""
        return tuple(one for one in self.scores if one.share == share)

    def best_cheap(self, share: float) -> ScoreResult:
        """The cheap score with the largest AUROC."""
        return max(self.of(share)[1:], key=lambda one: one.auroc.value)

    def ahead(self, share: float) -> bool:
        """Whether ours is above the best cheap score, with the whole interval of the difference."""
        lead = self.best_cheap(share).lead
        return lead is not None and lead.low > 0


def union_test(
    activity: Activity,
    units: UnitSet,
    settings: UnionSettings | None = None,
    *,
    unembedding: Tensor | None = None,
) -> UnionTest:
    """Tell unions of two features from single ones, by the judge of senses and by cheap scores.

    Args:
        activity: A text, with the firings of ``units``.
        units: Features of a dictionary.
        settings: How it is made.
        unembedding: For lens kurtosis, [d_model, vocabulary]; without it that score is left out.

    Raises:
        IncompatibleError: The activity does not have these units.
        ConfigurationError: Fewer than 20 pairs can be made; one document only; too few other features to fit on.
    """
    settings = settings or UnionSettings()
    firings = activity.firings.get(units.name)
    if firings is None or len(firings.pointer) - 1 != units.n_units:
        raise IncompatibleError(
            f"The activity does not hold the {units.n_units} units `{units.name}`.",
            hint="Take the dictionary that the text was read with.",
        )
    check_documents(activity)
    samples = sample_all(firings, settings.contexts, seed=settings.seed)
    full = np.array([len(one) == settings.contexts for one in samples])
    rare = firings.count < settings.most_density * len(activity)
    pairs = _choose_pairs(np.flatnonzero(full & rare), int(full.sum()), settings)
    directions = np.ascontiguousarray(units.directions.float().cpu().numpy())
    ruler = fit_ruler(
        activity,
        units.name,
        directions,
        samples,
        sizes=(settings.contexts,),
        seed=settings.seed,
        held_out=pairs.ravel().tolist(),
    )
    names, scores = _all_scores(activity, ruler, directions, samples, pairs, settings, unembedding)
    return UnionTest(
        pairs=len(pairs),
        wanted=settings.pairs,
        contexts=settings.contexts,
        features=ruler.features,
        scores=_results(names, scores, settings),
        left_out={LENS_KURTOSIS: "The unembedding was not given."} if unembedding is None else {},
    )


def _choose_pairs(eligible: NDArray[np.intp], full: int, settings: UnionSettings) -> NDArray[np.intp]:
    """Pairs of features, [pairs, 2], so that enough others are left to fit on."""
    number = min(settings.pairs, len(eligible) // 2, (full - _LEFT_FOR_FITTING) // 2)
    if number < _FEWEST_PAIRS:
        raise ConfigurationError(
            f"{len(eligible)} features fire at fewer than {settings.most_density:.0%} of the positions and have "
            f"{settings.contexts} contexts; the union test takes {2 * _FEWEST_PAIRS} of them, and "
            f"{_LEFT_FOR_FITTING} others.",
            hint="Read more text (--max-tokens, --text), or judge fewer contexts.",
        )
    chosen = np.random.default_rng(settings.seed).permutation(eligible)[: 2 * number]
    return chosen.reshape(number, 2)


def _all_scores(
    activity: Activity,
    ruler: Ruler,
    directions: Floats,
    samples: Sequence[Sample],
    pairs: NDArray[np.intp],
    settings: UnionSettings,
    unembedding: Tensor | None,
) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the scores [scores], and those of both features and of their unions, [pairs, 2 + shares, scores]."""
    names = [OURS, *CONTEXT_SCORES, DECODER_COSINE]
    found = [_of_contexts(activity, ruler, directions, samples, pairs, settings)]
    written = _written(directions[pairs], settings.shares)
    flat = written.reshape(-1, written.shape[-1])
    made_of = [
        own
        for one, other in pairs.tolist()
        for own in ([one], [other], *[[one, other]] * len(settings.shares))
    ]
    columns = [largest_decoder_cosine(flat, made_of, directions)]
    if unembedding is not None:
        names.append(LENS_KURTOSIS)
        columns.append(lens_kurtosis(flat, unembedding))
    found += [one.reshape(*written.shape[:2], 1) for one in columns]
    return names, np.concatenate(found, axis=2)


def _of_contexts(
    activity: Activity,
    ruler: Ruler,
    directions: Floats,
    samples: Sequence[Sample],
    pairs: NDArray[np.intp],
    settings: UnionSettings,
) -> NDArray[np.float64]:
    """Our score and those of contexts, [pairs, 2 + shares, scores]."""
    generator = np.random.default_rng([settings.seed, 1])
    rows = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        positions, cosines = [], []
        for pair in pairs[start : start + _PAIRS_AT_ONCE].tolist():
            both = united(samples[pair[0]], samples[pair[1]])
            written = _written(directions[None, pair], settings.shares)[0]
            for at, (chosen, direction) in enumerate(zip(_sets(settings, generator), written, strict=True)):
                contexts, makers = both.take(chosen), directions[pair] if at > 1 else None
                positions.append(contexts.position)
                cosines.append(ruler.space.vectors(contexts, direction, makers=makers).cosines())
        ours = ruler.judge.several(cosines)[:, None]
        cheap = [
            context_scores(activity.token[place], activity.rows(place), one)
            for place, one in zip(positions, cosines, strict=True)
        ]
        rows.append(np.concatenate([ours, np.stack(cheap)], axis=1))
    found = np.concatenate(rows)
    return found.reshape(len(pairs), 2 + len(settings.shares), -1)


def _sets(settings: UnionSettings, generator: np.random.Generator) -> list[NDArray[np.intp]]:
    """Which of the contexts of a pair, one feature's after the other's, make each set."""
    number = settings.contexts
    sets = [np.arange(number), np.arange(number, 2 * number)]
    for share in settings.shares:
        mine = max(1, round(number * share))
        first = generator.permutation(number)[:mine]
        second = number + generator.permutation(number)[: number - mine]
        sets.append(generator.permutation(np.concatenate([first, second])))
    return sets


def _written(directions: Floats, shares: Sequence[float]) -> Floats:
    """What each set's unit writes, of norm 1: [pairs, 2, d_model] gives [pairs, 2 + shares, d_model]."""
    first, second = directions[:, 0], directions[:, 1]
    mixed = [np.stack([union_direction(pair, (share, 1 - share)) for pair in directions]) for share in shares]
    return np.ascontiguousarray(np.stack([first, second, *mixed], axis=1))


def _results(
    names: Sequence[str], scores: NDArray[np.float64], settings: UnionSettings
) -> tuple[ScoreResult, ...]:
    results = []
    for at, share in enumerate(settings.shares):
        ours, drawn_ours = 0.0, np.empty(0)
        for column, name in enumerate(names):
            one, sign = PairScores(scores[:, :2, column], scores[:, 2 + at, column]), 1
            if column:
                one, sign = one.oriented()
            value = auroc(one)
            drawn = drawn_aurocs(one, draws=settings.draws, seed=settings.seed)
            lead = None
            if column:
                lead = interval(ours - value, drawn_ours - drawn)
            else:
                ours, drawn_ours = value, drawn
            results.append(ScoreResult(name, share, interval(value, drawn), sign, lead))
    return tuple(results)
