"""Which features to tune, and by how much to begin with: sparse regression on attributions.

To first order, scaling the latents by ``1 + d`` moves the log-odds of prompt p by ``A[p] . d``, the margin of fact
q by ``B[q] . d``, and costs a KL divergence of ``d F d / 2`` per token. So the change that takes most of the spread
away, keeps the facts and stays near the model is a quadratic programme; an L1 term makes it use few features. Its
answer is where tuning starts, and what a feature does alone is its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.sparse import csr_array, hstack
from sklearn.linear_model import lasso_path

from onesense.debias.attribution import Attributions
from onesense.debias.contrasts import Contrast
from onesense.errors import ConfigurationError

Floats = NDArray[np.float64]
_FACTS_WEIGHT = 0.5
_PREFILTER = 1500
_PATH = 40
_ROUNDS = 8
_MODESTY = 1e-3


class Feature(NamedTuple):
    """A feature of one of several dictionaries."""

    dictionary: int
    id: int


@dataclass(frozen=True, eq=False)
class Evidence:
    """What attributions say of every feature of several dictionaries, side by side.

    Attributes:
        neutral: Log-odds of woman against man of neutral prompts, less the mean of their group, [prompts].
        neutral_effects: How the latent of each feature enters there, [prompts, features].
        margins: Margins of facts (positive where the model is right), [facts].
        fact_effects: How each feature enters there, [facts, features].
        scores: Fisher scores of passages, each over the root of all tokens, [passages, features].
        widths: Features of each dictionary.
    """

    neutral: Floats
    neutral_effects: Floats
    margins: Floats
    fact_effects: Floats
    scores: Floats
    widths: tuple[int, ...]

    @property
    def bias(self) -> Floats:
        """Standard deviation over neutral prompts of what each feature adds, in nats, [features]."""
        return np.asarray(self.neutral_effects.std(axis=0))

    @property
    def fact(self) -> Floats:
        """What each feature adds to the margin of facts on average, in nats, [features]."""
        return np.asarray(self.fact_effects.mean(axis=0))

    @property
    def cost(self) -> Floats:
        """KL divergence per token that turning each feature off makes, to second order, [features]."""
        return np.asarray((self.scores**2).sum(axis=0) / 2)

    def feature(self, column: int) -> Feature:
        """The feature of a column."""
        dictionary = int(np.searchsorted(np.cumsum(self.widths), column, side="right"))
        return Feature(dictionary, column - sum(self.widths[:dictionary]))


def gather_evidence(
    neutral: Sequence[Contrast],
    neutral_found: Attributions,
    facts: Sequence[Contrast],
    facts_found: Attributions,
    prose_found: Attributions,
) -> Evidence:
    """Put attributions side by side.

    Prompts about one person (or pair) are averaged over their groups, so that what counts is how the person moves
    the pronoun, and not how one template does.

    Args:
        neutral: Neutral prompts.
        neutral_found: Their attributions.
        facts: Facts.
        facts_found: Their attributions.
        prose_found: Fisher scores of ordinary text.
    """
    averaging = _averaging(neutral)
    sign = np.array([float(one.sign) for one in facts])
    return Evidence(
        neutral=averaging @ neutral_found.values.double().numpy(),
        neutral_effects=np.ascontiguousarray(averaging @ _side_by_side(neutral_found)),
        margins=sign * facts_found.values.double().numpy(),
        fact_effects=_side_by_side(facts_found).multiply(sign[:, None]).toarray(),
        scores=_side_by_side(prose_found).toarray() / np.sqrt(float(prose_found.tokens.sum())),
        widths=tuple(effect.shape[1] for effect in neutral_found.effects),
    )


def _averaging(neutral: Sequence[Contrast]) -> Floats:
    """What gives each person's weighted mean over groups, every group less its own mean, [people, prompts]."""
    groups = np.array([one.group for one in neutral])
    weights = {one.person: one.weight for one in neutral}
    order = {name: at for at, name in enumerate(weights)}
    people = np.array([order[one.person] for one in neutral])
    averaging = np.zeros((len(order), len(neutral)))
    averaging[people, np.arange(len(neutral))] = 1
    averaging /= averaging.sum(axis=1, keepdims=True)
    averaging *= np.sqrt([[weight] for weight in weights.values()])
    for group in np.unique(groups):
        mine = groups == group
        averaging[:, mine] -= averaging[:, mine].sum(axis=1, keepdims=True) / mine.sum()
    return averaging


@dataclass(frozen=True, eq=False)
class Selection:
    """Features chosen together, and the change that was computed for them.

    Attributes:
        columns: Their columns in the evidence, [chosen].
        change: What is added to the factor 1 of each latent, [chosen].
        spread: Predicted standard deviation of the neutral log-odds, as a share of what it was.
        facts: Predicted mean margin of facts, as a share of what it was.
        kl: Predicted KL divergence per token.
        price: What a nat per token of divergence costs beside the squared spread, for this to be the best choice.
    """

    columns: NDArray[np.int64]
    change: Floats
    spread: float
    facts: float
    kl: float
    price: float


def select(
    evidence: Evidence, *, kl_budget: float, max_features: int, allowed: NDArray[np.bool_] | None = None
) -> Selection:
    """The features, at most so many, that take most of the spread away within a KL budget.

    Args:
        evidence: What is known of each feature.
        kl_budget: KL divergence per token that may be spent, in nats.
        max_features: How many features may be edited.
        allowed: Which columns may be chosen, [features]; None for all.

    Raises:
        ConfigurationError: The budget or the number is not positive, or no feature is left.
    """
    if not kl_budget > 0 or max_features < 1:
        raise ConfigurationError(
            f"A KL budget of {kl_budget} and {max_features} features leave nothing to change.",
            hint="Give a budget above 0 and at least one feature, such as 0.01 and 50.",
        )
    columns = _prefiltered(evidence, allowed)
    problem = _Problem(evidence, columns)
    low, high = -1.0, 5.0
    best: Selection | None = None
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        found = problem.solve(10.0**middle, max_features)
        if found.kl > kl_budget:
            low = middle
        else:
            high, best = middle, found
    if best is None or not len(best.columns):
        raise ConfigurationError(
            f"No choice of features stays within a KL budget of {kl_budget}.", hint="Allow more."
        )
    return best


class _Problem:
    """The quadratic programme over some columns, for any price of the KL divergence."""

    def __init__(self, evidence: Evidence, columns: NDArray[np.int64]) -> None:
        self.evidence, self.columns = evidence, columns
        n = len(evidence.neutral)
        self._spread = float(evidence.neutral.std()) or 1.0
        effects = evidence.neutral_effects[:, columns] / (np.sqrt(n) * self._spread)
        facts = evidence.fact_effects[:, columns] * np.sqrt(_FACTS_WEIGHT / max(1, len(evidence.margins)))
        scores = evidence.scores[:, columns]
        self._bias = effects.T @ effects
        self._facts = facts.T @ facts
        # Few passages know the Fisher matrix badly off its diagonal: shrink it half way towards that.
        fisher = scores.T @ scores
        self._kl = 0.5 * (fisher + np.diag(np.diag(fisher))) / 2
        self._linear = -effects.T @ evidence.neutral / (np.sqrt(n) * self._spread)

    def solve(self, price: float, max_features: int) -> Selection:
        """Minimise spread² + facts + price · KL over at most so many features."""
        quadratic = self._bias + self._facts + price * self._kl
        # Far from no change the first order is no guide, and a factor of 10 is no tuning.
        quadratic[np.diag_indices_from(quadratic)] += _MODESTY
        support = np.flatnonzero(self._lasso(quadratic, max_features))
        change = np.linalg.solve(quadratic[np.ix_(support, support)], self._linear[support])
        return self._described(support, change, price)

    def _lasso(self, quadratic: Floats, max_features: int) -> Floats:
        """The path of the L1 penalty, until it uses as many features as allowed.

        Features are scaled so that each costs the same: what counts is how much of the objective one can take away,
        not how steep it is at no change.
        """
        scale = np.sqrt(quadratic.diagonal())
        gram, linear = quadratic / np.outer(scale, scale), self._linear / scale
        # Any rows with this Gram matrix and this linear term do.
        rows = cholesky(gram, lower=False)
        target = solve_triangular(rows, linear, trans="T", lower=False)
        found = np.zeros(len(linear))
        for alpha in float(np.abs(linear).max()) * np.logspace(0, -3, _PATH) / len(rows):
            _, path, _ = lasso_path(
                rows,
                target,
                alphas=[alpha],
                coef_init=found.copy(),  # it is written to
                precompute=gram,
                Xy=linear,
                max_iter=200,
                tol=1e-3,
            )
            found = path[:, 0]
            if np.count_nonzero(found) >= max_features:
                break
        # The last step of the path may bring in several at once: the smallest of them wait.
        found[np.argsort(-np.abs(found), kind="stable")[max_features:]] = 0
        return np.asarray(found)

    def _described(self, support: NDArray[np.int64], change: Floats, price: float) -> Selection:
        evidence, columns = self.evidence, self.columns[support]
        left = evidence.neutral + evidence.neutral_effects[:, columns] @ change
        margins = evidence.margins + evidence.fact_effects[:, columns] @ change
        kl = float(change @ self._kl[np.ix_(support, support)] @ change)
        return Selection(
            columns=columns,
            change=change,
            spread=float(left.std()) / self._spread,
            facts=float(margins.mean() / evidence.margins.mean()) if len(margins) else 1.0,
            kl=kl,
            price=price,
        )


def _prefiltered(evidence: Evidence, allowed: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """The columns that matter most, so that the matrices stay small whatever the dictionary's width."""
    bias = evidence.bias
    usable = bias > 0 if allowed is None else allowed & (bias > 0)
    order = np.argsort(-np.where(usable, bias, -1.0), kind="stable")[:_PREFILTER]
    chosen = np.sort(order[usable[order]])
    if not len(chosen):
        raise ConfigurationError(
            "No feature is left to tune: none that is allowed acts on the pronouns.",
            hint="Loosen the screen, or take dictionaries at other depths.",
        )
    return np.asarray(chosen, dtype=np.int64)


def _side_by_side(found: Attributions) -> csr_array[np.float64]:
    return csr_array(hstack(found.effects, format="csr", dtype=np.float64))
