"""The choice of features: on attributions whose best answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from onesense.debias.attribution import Attributions
from onesense.debias.contrasts import Contrast
from onesense.debias.selection import Evidence, Feature, gather_evidence, select
from onesense.errors import ConfigurationError

PEOPLE, FEATURES, FACTS, PASSAGES = 60, 40, 30, 200


def _evidence(seed: int = 0) -> Evidence:
    """Features 0 to 3 make the spread; 3 is dear, and 2 also carries the facts."""
    draw = np.random.default_rng(seed)
    effects = 0.02 * draw.standard_normal((PEOPLE, FEATURES))
    effects[:, :4] = draw.standard_normal((PEOPLE, 4)) * [0.6, 0.5, 0.5, 0.6]
    effects -= effects.mean(axis=0)
    facts = 0.01 * draw.standard_normal((FACTS, FEATURES))
    facts[:, 2] = 1.5
    scores = 0.002 * draw.standard_normal((PASSAGES, FEATURES))
    scores[:, 3] *= 100
    return Evidence(
        neutral=effects[:, :4].sum(axis=1),
        neutral_effects=effects,
        margins=np.full(FACTS, 2.0),
        fact_effects=facts,
        scores=scores,
        widths=(30, 10),
    )


def test_what_makes_the_bias_is_taken_and_what_carries_facts_or_is_dear_is_not() -> None:
    found = select(_evidence(), kl_budget=1e-3, max_features=2)
    assert sorted(found.columns.tolist()) == [0, 1]
    # Turning them off takes their part away; the one at hand also stands in for what may not be touched.
    assert np.all((found.change < -0.7) & (found.change > -1.5))
    assert found.spread < 0.85
    assert found.facts > 0.97


@given(st.sampled_from([1e-4, 1e-3, 1e-2, 1e-1]), st.integers(1, 40), st.integers(0, 3))
def test_budget_and_number_are_kept(budget: float, number: int, seed: int) -> None:
    found = select(_evidence(seed), kl_budget=budget, max_features=number)
    assert found.kl <= budget
    assert 1 <= len(found.columns) <= number
    assert 0 <= found.spread <= 1.0 + 1e-9


def test_more_budget_and_more_features_take_more_away() -> None:
    evidence = _evidence()
    by_budget = [select(evidence, kl_budget=kl, max_features=40).spread for kl in (1e-5, 1e-3, 1e-1)]
    by_number = [select(evidence, kl_budget=1e-1, max_features=number).spread for number in (1, 2, 8)]
    assert by_budget == sorted(by_budget, reverse=True)
    assert by_number == sorted(by_number, reverse=True)


def test_only_allowed_features_are_taken() -> None:
    allowed = np.ones(FEATURES, dtype=bool)
    allowed[0] = False
    found = select(_evidence(), kl_budget=1e-1, max_features=40, allowed=allowed)
    assert 0 not in found.columns


@pytest.mark.parametrize(("budget", "number"), [(0.0, 5), (-1.0, 5), (0.01, 0), (float("nan"), 5)])
def test_a_budget_that_allows_nothing_is_refused(budget: float, number: int) -> None:
    with pytest.raises(ConfigurationError, match="leave nothing to change"):
        select(_evidence(), kl_budget=budget, max_features=number)


def test_no_feature_left_is_said() -> None:
    with pytest.raises(ConfigurationError, match="No feature is left"):
        select(_evidence(), kl_budget=0.01, max_features=5, allowed=np.zeros(FEATURES, dtype=bool))
    evidence = _evidence()
    still = replace(evidence, neutral_effects=np.zeros_like(evidence.neutral_effects))
    with pytest.raises(ConfigurationError, match="No feature is left"):
        select(still, kl_budget=0.01, max_features=5)


def test_columns_are_features_of_their_dictionary() -> None:
    evidence = _evidence()
    assert evidence.feature(0) == Feature(0, 0)
    assert evidence.feature(29) == Feature(0, 29)
    assert evidence.feature(30) == Feature(1, 0)
    assert evidence.feature(39) == Feature(1, 9)


def _attributions(values: Sequence[float], effects: np.ndarray) -> Attributions:
    return Attributions(
        torch.tensor(values),
        (csr_array(effects.astype(np.float32)),),
        torch.full((len(values),), 4.0),
        (torch.zeros(effects.shape[1]),),
        (torch.zeros(effects.shape[1]),),
    )


def test_templates_are_centred_and_people_averaged() -> None:
    neutral = [
        Contrast("p", "she", "he", person, person, group, 0, weight=weight)
        for group in ("one", "two")
        for person, weight in (("nurse", 1.0), ("baker", 1.0), ("voter", 0.25))
    ]
    values = [1.0, -1.0, 0.0, 12.0, 8.0, 10.0]
    found = _attributions(values, np.array(values)[:, None] * 2.0)
    facts = [Contrast("f", "she", "he", "f", "f", "kin", -1)]
    evidence = gather_evidence(
        neutral,
        found,
        facts,
        _attributions([-3.0], np.array([[5.0]])),
        _attributions([0.0], np.array([[6.0]])),
    )
    np.testing.assert_allclose(evidence.neutral, [1.5, -1.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(evidence.neutral_effects[:, 0], [3.0, -3.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(evidence.margins, [3.0])
    np.testing.assert_allclose(evidence.fact_effects, [[-5.0]])
    np.testing.assert_allclose(evidence.scores, [[3.0]])  # 6 over the root of 4 tokens
    assert evidence.cost.tolist() == [4.5]
