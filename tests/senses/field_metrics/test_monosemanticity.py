"""FMS: near 1 for a latent that is the concept, at chance for latents that know nothing, less for halves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from onesense.errors import ConfigurationError, NumericalError
from onesense.senses.field_metrics.monosemanticity import (
    CHANCE,
    _by_depth,
    feature_monosemanticity_score,
)
from senses.field_metrics.planted import noise, with_label


def test_a_latent_that_is_the_label_scores_near_one() -> None:
    found = feature_monosemanticity_score(*with_label(150, at=11), removed=(1,))
    assert found.capacity.value == 1
    assert found.global_part.value == 1
    assert found.score[1].value > 0.85
    assert found.score[1].low > 0.75
    assert found.roots == ((11,),) * 2
    assert (found.live, found.rows, found.documents) == (30, 300, 150)


def test_latents_that_know_nothing_are_at_chance() -> None:
    covered, values = [], []
    for seed in range(24):
        found = feature_monosemanticity_score(*noise(120, seed=seed), draws=400)
        covered += [score.low <= CHANCE <= score.high for score in found.score.values()]
        covered.append(found.capacity.low <= 0.5 <= found.capacity.high)
        values.append(found.score[1].value)
    assert np.mean(covered) > 0.85
    assert np.mean(values) == pytest.approx(CHANCE, abs=0.03)


def test_a_second_latent_that_says_the_same_takes_the_local_part_away() -> None:
    planted = with_label(100, at=4)
    planted.latents[:, 9] = 2 * planted.labels
    found = feature_monosemanticity_score(*planted, removed=(1, 2))
    assert found.local_part[1].value == 0
    assert found.local_part[2].value > 0.7
    assert all(set(roots) == {4, 9} for roots in found.roots)


def test_a_concept_in_two_halves_has_a_smaller_global_part() -> None:
    planted = noise(200)
    half = np.arange(400) // 2 % 2 == 0
    planted.latents[:, 0] = 5 * (planted.labels & half)
    planted.latents[:, 1] = 5 * (planted.labels & ~half)
    whole = feature_monosemanticity_score(*with_label(200, at=0), folds=3)
    split = feature_monosemanticity_score(*planted, folds=3)
    assert split.capacity.value == pytest.approx(0.75, abs=0.05)
    assert split.global_part.value < 0.8 < whole.global_part.value
    assert split.score[1].high < whole.score[1].low


def test_scores_are_those_of_the_definition() -> None:
    planted = with_label(60, at=3)
    planted.latents[::7, 3] = 0.5
    found = feature_monosemanticity_score(*planted, removed=(1, 5), folds=2, draws=50)
    for p, score in found.score.items():
        parts = (found.local_part[p].value + found.global_part.value) / 2
        assert score.value == pytest.approx(found.capacity.value * parts)
    assert all(len(roots) == 5 for roots in found.roots)


def test_dead_and_rescaled_latents_change_nothing() -> None:
    planted = with_label(60, at=3)
    dead = np.zeros((120, 10), dtype=np.float32)
    more = np.hstack([4 * planted.latents, dead])
    one = feature_monosemanticity_score(*planted, folds=2, draws=100)
    other = feature_monosemanticity_score(more, planted.labels, planted.documents, folds=2, draws=100)
    assert one == other


def test_a_tree_cut_at_a_depth_is_the_tree_of_that_depth() -> None:
    planted = noise(80)
    train, test = planted.latents[:100], planted.latents[100:]
    tree = DecisionTreeClassifier(random_state=0).fit(train, planted.labels[:100])
    found = _by_depth(tree, test)
    assert found.shape == (60, tree.get_depth())
    np.testing.assert_array_equal(found[:, -1], tree.predict(test))
    for depth in (1, 2, 3):
        shallow = DecisionTreeClassifier(max_depth=depth, random_state=0).fit(train, planted.labels[:100])
        inner = shallow.tree_
        # ties between equal splits may be broken in another way; the first split is the same
        if inner.node_count > 1 and list(inner.feature) == list(_cut(tree, depth)):
            np.testing.assert_array_equal(found[:, depth - 1], shallow.predict(test))
    assert (
        tree.tree_.feature[0]
        == DecisionTreeClassifier(max_depth=1, random_state=0)
        .fit(train, planted.labels[:100])
        .tree_.feature[0]
    )


def _cut(tree: DecisionTreeClassifier, depth: int) -> list[int]:
    depths = tree.tree_.compute_node_depths() - 1
    kept = depths <= depth
    return np.where(depths == depth, -2, tree.tree_.feature)[kept].tolist()


def test_bad_input_is_refused() -> None:
    latents, labels, documents = noise(10)
    with pytest.raises(ConfigurationError, match="30 fire"):
        feature_monosemanticity_score(latents, labels, documents, removed=(1, 31))
    with pytest.raises(ConfigurationError, match="taken away"):
        feature_monosemanticity_score(latents, labels, documents, removed=())
    with pytest.raises(ConfigurationError, match="folds"):
        feature_monosemanticity_score(latents, labels, documents, folds=11)
    with pytest.raises(ConfigurationError, match="draw"):
        feature_monosemanticity_score(latents, labels, documents, draws=0)
    with pytest.raises(NumericalError):
        feature_monosemanticity_score(latents * np.nan, labels, documents)
