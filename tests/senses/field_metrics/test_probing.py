"""k-sparse probes: the planted latent, chance, the pairing with raw channels, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.senses.field_metrics.probing import sparse_probing
from senses.field_metrics.planted import noise, with_label


def channels(rows: int, width: int = 12, seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def test_a_latent_that_is_the_label_is_found() -> None:
    planted = with_label(100, at=17, strength=5.0)
    found = sparse_probing(planted.latents, channels(200), planted.labels, planted.documents)
    assert [probe.k for probe in found] == [1, 2, 5]
    for probe in found:
        assert probe.latents.value == 1
        assert {fold[0] for fold in probe.chosen} == {17}
        assert all(len(fold) == probe.k for fold in probe.chosen)
        assert probe.channels.low < 0.5 < probe.channels.high
        assert probe.difference.value == pytest.approx(probe.latents.value - probe.channels.value)
        assert probe.difference.low > 0.35


def test_random_latents_are_at_chance() -> None:
    covered, values = [], []
    for seed in range(40):
        planted = noise(120, seed=seed)
        raw = channels(240, seed=100 + seed)
        for probe in sparse_probing(
            planted.latents, raw, planted.labels, planted.documents, ks=(1, 5), draws=400
        ):
            for estimate, chance in (
                (probe.latents, 0.5),
                (probe.channels, 0.5),
                (probe.difference, 0),
            ):
                covered.append(estimate.low <= chance <= estimate.high)
            values.append(probe.latents.value)
    assert np.mean(covered) > 0.85
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)


def test_a_concept_that_needs_two_channels_needs_two_columns() -> None:
    planted = noise(200)
    raw = channels(400, width=8)
    raw[:, 2:4] = raw[:, 2:4] * 0.7 + np.where(planted.labels, 1.0, -1.0)[:, None]
    one, two = sparse_probing(planted.latents, raw, planted.labels, planted.documents, ks=(1, 2))
    assert two.channels.value > one.channels.value + 0.02
    assert two.difference.high < 0


def test_equal_columns_have_no_difference() -> None:
    planted = with_label(60, at=2)
    found = sparse_probing(planted.latents, planted.latents, planted.labels, planted.documents)
    for probe in found:
        assert (probe.difference.value, probe.difference.low, probe.difference.high) == (0, 0, 0)


def test_bad_input_is_refused() -> None:
    latents, labels, documents = noise(20)
    raw = channels(40)
    with pytest.raises(ConfigurationError, match="12 raw channels"):
        sparse_probing(latents, raw, labels, documents, ks=(13,))
    with pytest.raises(ConfigurationError, match="k = 0"):
        sparse_probing(latents, raw, labels, documents, ks=(0,))
    few = latents * (np.arange(30) < 3)
    with pytest.raises(ConfigurationError, match="3 latents fire"):
        sparse_probing(few, raw, labels, documents, ks=(5,))
    with pytest.raises(IncompatibleError, match="40 rows of latents and 39"):
        sparse_probing(latents, raw[:39], labels, documents)
    with pytest.raises(NumericalError, match="channels"):
        sparse_probing(latents, np.where(raw > 2, np.inf, raw), labels, documents)
    with pytest.raises(ConfigurationError, match="folds"):
        sparse_probing(latents, raw, labels, documents, folds=21)
