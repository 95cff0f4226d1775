from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from onesense.errors import ConfigurationError
from onesense.senses.validation.planted import PlantedSettings, PlantedTest, plant_units, planted_test
from onesense.senses.validation.synthetic import SyntheticSettings, SyntheticText, synthetic_text
from onesense.senses.validation.validation import Validation

TEXT = SyntheticSettings(
    features=120,
    d_model=40,
    positions=30_000,
    firing_probability=0.015,
    correlation_rank=6,
    correlation_scale=0.35,
    dictionary_features=160,
    dictionary_l0=2,
    training_steps=600,
)
SETTINGS = PlantedSettings(synthetic=TEXT, most=3, units=16, singles=40, contexts=32, draws=200)


@pytest.fixture(scope="module")
def text() -> SyntheticText:
    return synthetic_text(TEXT, seed=0)


@pytest.fixture(scope="module")
def found() -> PlantedTest:
    return planted_test(SETTINGS)


def test_the_text_has_the_firings_of_both(text: SyntheticText) -> None:
    planted = text.activity.firings["planted"]
    assert planted.count.mean() / len(text.activity) == pytest.approx(0.015, rel=0.1)
    assert 0 < text.fvu < 0.6
    assert len(np.unique(text.activity.document)) > 100
    np.testing.assert_allclose(np.linalg.norm(text.directions, axis=1), 1, atol=1e-5)
    position, value = planted.of(3)
    # where a feature fires the stream points its way
    along = text.activity.rows(np.arange(len(text.activity))) @ text.planted_directions[3]
    assert along[position].mean() > along.mean() + 0.5
    assert (np.diff(position) > 0).all()
    assert (value > 0).all()


def test_a_unit_has_the_shares_that_were_planted(text: SyntheticText) -> None:
    units = plant_units(text, SETTINGS)
    assert len(units.shares) == 40 + 2 * 16
    planted = text.activity.firings["planted"]
    for unit in (40, 41, 56, 57):
        position, value = units.firings.of(unit)
        assert (np.diff(position) > 0).all()
        assert sum(units.shares[unit]) == pytest.approx(1)
        assert units.equal[unit] == (len(set(np.round(units.shares[unit], 6))) == 1)
        # a position where two of them fire counts for both, so shares are near the planted ones, not equal
        mass = np.array([value[np.isin(position, planted.of(one)[0])].sum() for one in units.features[unit]])
        np.testing.assert_allclose(mass / mass.sum(), units.shares[unit], atol=0.12)


def test_measured_numbers_rise_with_planted_ones(found: PlantedTest) -> None:
    assert found.correlation.low > 0.3
    assert found.correlation.low <= found.correlation.value <= found.correlation.high
    assert found.single.value > 0.5
    assert found.units == 3 * 16
    assert found.singles == 40
    means = {(row.planted, row.equal): row.mean_number for row in found.numbers}
    assert means[1, True] < means[2, True] < means[3, True]
    assert "trained on the synthetic activations" in found.fitted_on
    assert json.loads(json.dumps(Validation(planted=found).to_json()))["planted"]["units"] == 48


def test_the_same_seed_gives_the_same_text() -> None:
    small = replace(TEXT, positions=5000, training_steps=20)
    one, other = synthetic_text(small, seed=4), synthetic_text(small, seed=4)
    np.testing.assert_array_equal(one.directions, other.directions)
    np.testing.assert_array_equal(one.activity.residual[0], other.activity.residual[0])
    assert not np.array_equal(one.directions, synthetic_text(small, seed=5).directions)


def test_bad_input_is_refused() -> None:
    for wrong in ({"most": 1}, {"units": 1}, {"singles": 5}, {"singles": 500}, {"draws": 0}):
        with pytest.raises(ConfigurationError):
            replace(SETTINGS, **wrong)
    with pytest.raises(ConfigurationError):
        SyntheticSettings(positions=0)
    with pytest.raises(ConfigurationError):
        SyntheticSettings(firing_probability=1.0)
    with pytest.raises(ConfigurationError, match="fire often enough"):
        planted_test(replace(SETTINGS, synthetic=replace(TEXT, positions=2000, training_steps=20)))
