from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from onesense.errors import ConfigurationError, IncompatibleError
from onesense.senses.unit_sets import feature_units
from onesense.senses.validation.union_test import OURS, UnionSettings, UnionTest, _choose_pairs, union_test
from onesense.senses.validation.validation import Validation
from senses.validation.small_activity import small_text

SETTINGS = UnionSettings(pairs=24, contexts=16, draws=200)


@pytest.fixture(scope="module")
def found() -> UnionTest:
    activity, units = small_text()
    return union_test(activity, units, SETTINGS, unembedding=torch.randn(24, 90))


def test_unions_are_told_where_each_feature_has_a_place_of_its_own(found: UnionTest) -> None:
    ours = found.of(0.5)[0]
    assert ours.name == OURS
    assert ours.lead is None
    assert ours.auroc.value > 0.9
    assert ours.auroc.low <= ours.auroc.value <= ours.auroc.high
    assert (found.pairs, found.wanted, found.contexts) == (24, 24, 16)
    assert found.features == 130 - 48


def test_every_cheap_score_stands_beside_ours(found: UnionTest) -> None:
    for share in (0.5, 0.25):
        rows = found.of(share)
        assert len(rows) == 10
        assert {"token entropy", "lens kurtosis", "largest decoder cosine"} <= {row.name for row in rows}
        for row in rows[1:]:
            assert row.lead is not None
            assert row.lead.value == pytest.approx(rows[0].auroc.value - row.auroc.value)
        best = found.best_cheap(share)
        assert best.auroc.value == max(row.auroc.value for row in rows[1:])
        assert best.lead is not None
        assert found.ahead(share) == (best.lead.low > 0)


def test_more_tokens_are_seen_in_a_union(found: UnionTest) -> None:
    entropy = next(row for row in found.of(0.5) if row.name == "token entropy")
    assert entropy.sign == 1
    assert entropy.auroc.value > 0.9  # here tokens belong to features, unlike in a language


def test_contexts_that_are_all_alike_are_at_chance() -> None:
    activity, units = small_text(noise=0)
    generator = np.random.default_rng(1)
    same = replace(
        activity,
        residual=[generator.standard_normal((len(activity), 24)).astype(np.float16)],
        token=generator.integers(50, size=len(activity)).astype(np.int32),
    )
    firings = activity.firings[units.name]
    moved = np.concatenate(
        [
            np.sort(generator.choice(len(activity), count, replace=False)).astype(np.int32)
            for count in firings.count
        ]
    )
    same = replace(same, firings={units.name: replace(firings, position=moved)})
    ours = union_test(same, units, SETTINGS).of(0.5)[0]
    assert ours.auroc.low < 0.6


def test_no_unembedding_no_kurtosis() -> None:
    activity, units = small_text()
    found = union_test(activity, units, SETTINGS)
    assert "lens kurtosis" in found.left_out
    assert "lens kurtosis" not in {row.name for row in found.scores}
    assert json.loads(json.dumps(Validation(union=found).to_json()))["union"]["ahead"][0]["share"] == 0.5


def test_fewer_features_make_fewer_pairs_and_it_is_said() -> None:
    activity, units = small_text()
    found = union_test(activity, units, replace(SETTINGS, pairs=5000))
    assert found.wanted == 5000
    assert found.pairs == (130 - 64) // 2


def test_each_feature_is_in_one_pair_only() -> None:
    pairs = _choose_pairs(np.arange(10, 400), 390, replace(SETTINGS, pairs=150))
    assert pairs.shape == (150, 2)
    assert len(np.unique(pairs)) == 300


def test_bad_input_is_refused() -> None:
    activity, units = small_text(features=100)
    with pytest.raises(ConfigurationError, match="takes 40"):
        union_test(activity, units, SETTINGS)
    activity, units = small_text(documents=1)
    with pytest.raises(ConfigurationError, match="one document"):
        union_test(activity, units, SETTINGS)
    with pytest.raises(IncompatibleError, match="does not hold"):
        union_test(activity, feature_units(units.dictionary, name="others"), SETTINGS)
    for wrong in ({"pairs": 5}, {"contexts": 4}, {"shares": ()}, {"shares": (0.9,)}, {"draws": 0}):
        with pytest.raises(ConfigurationError):
            replace(SETTINGS, **wrong)
