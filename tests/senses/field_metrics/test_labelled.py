"""Labelled rows: what is refused, and folds that keep documents whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.senses.field_metrics.labelled import balanced_accuracies, class_sums, labelled_rows
from senses.field_metrics.planted import noise


def test_a_tensor_is_as_good_as_an_array() -> None:
    planted = noise(6)
    rows = labelled_rows(torch.from_numpy(planted.latents), planted.labels.astype(int), planted.documents)
    np.testing.assert_array_equal(rows.latents, planted.latents)


def test_dead_latents_are_not_live() -> None:
    planted = noise(20)
    planted.latents[:, [3, 7]] = 0
    live = labelled_rows(*planted).live
    assert sorted(set(range(30)) - set(live.tolist())) == [3, 7]


@given(st.integers(4, 30), st.integers(2, 4), st.integers(0, 3))
def test_every_row_is_scored_once_on_other_documents(documents: int, folds: int, seed: int) -> None:
    planted = noise(documents)
    rows = labelled_rows(*planted)
    names = np.array(planted.documents)
    scored_rows = []
    for fitted, scored in rows.folds(folds, seed):
        assert not set(names[fitted]) & set(names[scored])
        assert set(planted.labels[fitted]) == {True, False}
        scored_rows.extend(scored.tolist())
    assert sorted(scored_rows) == list(range(2 * documents))


def test_bad_input_is_told() -> None:
    latents, labels, documents = noise(6)
    broken = latents.copy()
    broken[2, 5] = np.nan
    with pytest.raises(NumericalError, match="column 5"):
        labelled_rows(broken, labels, documents)
    with pytest.raises(ConfigurationError, match="Every label is true"):
        labelled_rows(latents, np.ones(12), documents)
    with pytest.raises(ConfigurationError, match="one document"):
        labelled_rows(latents, labels, ["a"] * 12)
    with pytest.raises(ConfigurationError, match="neither true nor false"):
        labelled_rows(latents, np.where(labels, np.nan, 0), documents)
    with pytest.raises(ConfigurationError, match="No latent fires"):
        labelled_rows(np.zeros_like(latents), labels, documents)
    with pytest.raises(ConfigurationError, match="no row"):
        labelled_rows(latents[:0], labels[:0], [])
    with pytest.raises(IncompatibleError, match="12 rows"):
        labelled_rows(latents, labels[:5], documents)
    with pytest.raises(IncompatibleError, match="shape"):
        labelled_rows(latents[0], labels, documents)


def test_folds_that_cannot_be_made_are_refused() -> None:
    latents, labels, documents = noise(4)
    rows = labelled_rows(latents, labels, documents)
    for folds in (1, 5):
        with pytest.raises(ConfigurationError, match="4 documents"):
            list(rows.folds(folds, 0))
    rare = labelled_rows(latents, np.arange(8) == 0, documents)
    with pytest.raises(ConfigurationError, match="true in 1 documents"):
        list(rare.folds(2, 0))


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), min_size=2, max_size=40))
def test_balanced_accuracy_is_that_of_scikit_learn(rows: list[tuple[bool, bool, int]]) -> None:
    told, truth = (np.array([row[column] for row in rows]) for column in (0, 1))
    found = balanced_accuracies(
        class_sums((told == truth)[:, None], truth, [row[2] for row in rows]).sum(axis=0, keepdims=True)
    )[0, 0]
    if truth.all() or not truth.any():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(balanced_accuracy_score(truth, told))
