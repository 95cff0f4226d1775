"""Search: better amounts by forward passes only, where a gradient does not tell all that happens.

Which latents a top-k dictionary keeps changes in jumps when an edit at an earlier depth moves its input. The
gradient knows the latents that are kept, and not which one is about to take the place of another.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import GPSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from onesense.debias.objective import Objective
from onesense.debias.search_space import SearchSpace
from onesense.debias.tunable import Tunable
from onesense.errors import ConfigurationError, FormatError, NumericalError
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.store.atomic import read_json
from onesense.store.seal import keep_json, kept_json

# Of the samplers of optuna, that with Gaussian processes gets furthest in tens of trials: see docs/debias.md.
_AT_RANDOM = 5
_LEAST_SHARE, _MOST_SHARE = 1e-3, 4.0


class Search(StrEnum):
    """How amounts are found."""

    AUTO = "auto"
    """``both`` where the gradient does not tell all, else ``gradient``"""
    GRADIENT = "gradient"
    """by gradient"""
    TRIALS = "trials"
    """by trials, from where the quadratic programme starts"""
    BOTH = "both"
    """by gradient, and from there by trials"""


def search_for(asked: str, dictionaries: Sequence[Dictionary]) -> Search:
    """How amounts are found for some dictionaries.

    Edits move which latents a top-k dictionary keeps only where they act before it: with one hook point the gradient
    tells all.

    Raises:
        ConfigurationError: There is no such way.
    """
    if asked not in list(Search):
        raise ConfigurationError(
            f"There is no search {asked!r}.", hint=f"Choose one of: {', '.join(Search)}."
        )
    if asked != Search.AUTO:
        return Search(asked)
    jumps = any(dictionary.architecture is Architecture.TOPK for dictionary in dictionaries)
    return Search.BOTH if jumps and len(dictionaries) > 1 else Search.GRADIENT


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How amounts are searched.

    Attributes:
        trials: How many amounts are tried for each budget.
        batches: Batches of the objective that every trial is measured on, the same for all.
        alone: Features that are moved by themselves; the others move by dictionary and sign.
        facts_weight: What a squared nat of margin lost costs, beside the bias, which begins at 1.
    """

    trials: int = 60
    batches: int = 4
    alone: int = 10
    facts_weight: float = 0.3

    def __post_init__(self) -> None:
        if self.trials < 1 or self.batches < 1 or self.alone < 0:
            raise ConfigurationError(
                f"A search of {self.trials} trials on {self.batches} batches with {self.alone} features alone "
                "cannot be made.",
                hint="Give at least one trial and one batch, such as --trials 60.",
            )


class Trial(NamedTuple):
    """Amounts that were tried.

    Attributes:
        values: Their place in the search space.
        losses: Bias, facts and KL as the objective has them; None where one was NaN or infinite.
    """

    values: dict[str, float]
    losses: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes:
        trials: Every trial, in order.
        best: Number of the best one, whose amounts the tunable has.
        values: What the search makes small, for each trial: ``bias + facts weight · facts + what is overdrawn``,
            the last as a share of the budget; None for a trial that failed.
        budget: The KL budget.
    """

    trials: tuple[Trial, ...]
    best: int
    values: tuple[float | None, ...]
    budget: float

    @property
    def failed(self) -> int:
        """Trials whose losses were NaN or infinite."""
        return sum(value is None for value in self.values)

    @property
    def within_budget(self) -> int:
        """Trials whose KL was within the budget."""
        return sum(one.losses is not None and one.losses[2] <= self.budget for one in self.trials)

    def to_json(self) -> dict[str, object]:
        """The result in short, with its notes, as JSON values."""
        return {
            "trials": len(self.trials),
            "failed": self.failed,
            "within_budget": self.within_budget,
            "start": self.values[0],
            "best": self.values[self.best],
            "best_trial": self.best,
            "notes": list(self.notes()),
        }

    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        search, count, best = f"The search at KL {self.budget:g}", len(self.trials), self.values[self.best]
        notes = [
            f"{search} tried {count} amounts; what it makes small went from {_shown(self.values[0])} to "
            f"{_shown(best)}."
        ]
        if self.failed:
            notes.append(f"{search}: {self.failed} of {count} trials gave NaN or infinity and were left out.")
        if not self.within_budget:
            notes.append(f"{search}: no trial kept to the budget; the best one was scaled down to it.")
        return tuple(notes)


def search(
    tunable: Tunable,
    objective: Objective,
    *,
    budget: float,
    settings: SearchSettings,
    importance: Sequence[float],
    seed: int,
    checkpoint: Path | None = None,
    identity: str = "",
    report: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """Try amounts around those that the tunable has, and give it the best ones.

    The first trial is where the tunable stands, so that the result is never worse than that; the second brings
    it to the budget, if KL were quadratic. Every trial is kept as soon as it is measured: an interrupted search
    leaves the best so far in the tunable, and called again it goes on to what it would have found.

    Args:
        tunable: What is searched; changed in place.
        objective: What is measured.
        budget: KL divergence per token that should not be exceeded, in nats.
        settings: How.
        importance: What each feature counts when those to be moved alone are chosen, [features].
        seed: Of what is drawn.
        checkpoint: File that keeps the trials, or None.
        identity: What the trials belong to; those of something else, or from other amounts, are not used.
        report: Told trials done and trials wanted.

    Raises:
        NumericalError: The losses of every trial were NaN or infinite.
    """
    loop = _Loop(tunable, objective, budget, settings, importance, seed)
    wanted = settings.trials if loop.space.start else 1
    key = f"{identity} {loop.key()}"
    if checkpoint is not None:
        loop.trials = _kept(checkpoint, key)[:wanted]
    try:
        with _quiet():
            while len(loop.trials) < wanted:
                loop.one()
                if checkpoint is not None:
                    keep_json(checkpoint, {"of": key, "trials": [trial._asdict() for trial in loop.trials]})
                if report is not None:
                    report(len(loop.trials), wanted)
    finally:
        loop.take_best()
    return loop.result()


class _Loop:
    def __init__(
        self,
        tunable: Tunable,
        objective: Objective,
        budget: float,
        settings: SearchSettings,
        importance: Sequence[float],
        seed: int,
    ) -> None:
        self.tunable, self.objective, self.budget, self.settings = tunable, objective, budget, settings
        self.seed = seed
        self.space = SearchSpace(tunable, importance, alone=settings.alone)
        self.trials: list[Trial] = []

    def key(self) -> str:
        """What decides the trials, but for how many there are."""
        state = {name: tensor.tolist() for name, tensor in self.tunable.state().items()}
        settings = {**asdict(self.settings), "trials": None}
        said = repr((self.tunable.features, state, list(self.space.start), settings, self.budget, self.seed))
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def one(self) -> None:
        """Choose amounts, measure them, keep them."""
        planned = self._planned()
        values = self._asked() if planned is None else planned
        self.space.take(values)
        steps = range(min(self.settings.batches, self.objective.round))
        edits = self.tunable.edited()
        found = [[float(loss) for loss in self.objective.measure(step, edits)] for step in steps]
        bias, facts, kl = (float(np.mean(part)) for part in zip(*found, strict=True))
        finite = all(map(math.isfinite, (bias, facts, kl)))
        self.trials.append(Trial(values, (bias, facts, kl) if finite else None))

    def _planned(self) -> dict[str, float] | None:
        """The first two trials: the start, and the start brought to the budget."""
        if not self.trials:
            return self.space.start
        return self.space.scaled(self._share()) if len(self.trials) == 1 else None

    def _share(self) -> float:
        """The share of the start that has the budget's KL, if KL is quadratic: the search goes on around it."""
        first = self.trials[0].losses
        if first is None or first[2] <= 0:
            return 1.0
        return min(max(math.sqrt(self.budget / first[2]), _LEAST_SHARE), _MOST_SHARE)

    def _asked(self) -> dict[str, float]:
        """What the sampler proposes after the trials so far; a new one each time, which no interruption changes."""
        ranges = self.space.around(self._share())
        drawn = np.random.SeedSequence([self.seed, len(self.trials)]).generate_state(1)
        sampler = GPSampler(seed=int(drawn[0]), n_startup_trials=_AT_RANDOM, deterministic_objective=True)
        study = optuna.create_study(sampler=sampler)
        distributions: dict[str, BaseDistribution] = {**ranges}
        for trial in self.trials:
            if _inside(trial, ranges):
                study.add_trial(self._frozen(trial, distributions))
        params = study.ask(distributions).params
        return {name: float(params[name]) for name in ranges}

    def _frozen(self, trial: Trial, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
        value = self.value(trial)
        return create_trial(
            state=TrialState.FAIL if value is None else TrialState.COMPLETE,
            value=value,
            params=trial.values,
            distributions=distributions,
        )

    def value(self, trial: Trial) -> float | None:
        """What is made small; None for a trial that failed."""
        if trial.losses is None:
            return None
        bias, facts, kl = trial.losses
        return bias + self.settings.facts_weight * facts + max(0.0, kl / self.budget - 1)

    def take_best(self) -> None:
        """Give the tunable the best amounts so far; those of the start where there are none."""
        best = self._best()
        self.space.take(self.space.start if best is None else self.trials[best].values)

    def _best(self) -> int | None:
        values = [
            (value, number) for number, value in enumerate(map(self.value, self.trials)) if value is not None
        ]
        return min(values)[1] if values else None

    def result(self) -> SearchResult:
        best = self._best()
        if best is None:
            raise NumericalError(
                f"All {len(self.trials)} trials of the search gave NaN or infinity.",
                hint="Load the model in float32, or give a smaller KL budget.",
            )
        return SearchResult(
            tuple(self.trials), best, tuple(self.value(trial) for trial in self.trials), self.budget
        )


def _kept(path: Path, key: str) -> list[Trial]:
    """The trials of a file that belongs to the same work."""
    kept = kept_json(path)
    if kept is None or kept.get("of") != key:
        return []
    return [
        Trial(one["values"], None if one["losses"] is None else tuple(one["losses"]))
        for one in kept["trials"]
    ]


def _inside(trial: Trial, ranges: Mapping[str, FloatDistribution]) -> bool:
    """Whether the sampler may know a trial: where the start is far over the budget, it is outside the ranges."""
    return all(ranges[name].low <= value <= ranges[name].high for name, value in trial.values.items())


def _shown(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.3f}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells every trial, and the Gaussian processes which packages would make them faster."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def search_file(budget: float) -> str:
    """Name of the file that says what a search came to."""
    return f"search-{budget:g}.json"


def search_notes(path: Path) -> list[str]:
    """What a search said of itself, from its file; nothing where there is none.

    Raises:
        FormatError: The file is damaged.
    """
    if not path.exists():
        return []
    kept = kept_json(path)
    if kept is None:  # of an older onesense, which put no digest there
        kept = read_json(path)
        if not isinstance(kept, dict) or "sha256" in kept or not isinstance(kept.get("notes"), list):
            raise FormatError(
                f"{path} is damaged.", hint="Delete the folder of the run and run the command again."
            )
    return [str(note) for note in kept["notes"]]
