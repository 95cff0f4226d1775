"""Senses of all units as arrays."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from onesense.senses.partition import Senses
from onesense.senses.sampling import Sample
from onesense.senses.sense_table import SenseTable, sense_table
from senses.planted_contexts import activity_of


@pytest.fixture
def table() -> SenseTable:
    latents = np.zeros((600, 4))
    latents[[10, 60, 110, 400], 0] = [1, 2, 4, 1]
    latents[[5, 65], 1] = 1
    latents[:, 3] = 1
    activity = activity_of({"features": latents}, np.ones((600, 4)))
    samples = [
        Sample(np.array([110, 10, 400, 60], np.int32), np.array([4, 1, 1, 2], np.float32)),
        Sample(np.array([5], np.int32), np.ones(1, np.float32)),
        Sample(np.empty(0, np.int32), np.empty(0, np.float32)),
        Sample(np.array([3, 103, 203], np.int32), np.ones(3, np.float32)),
    ]
    several = Senses(np.array([0, 1, 1, 0]), np.array([0.75, 0.25]), 0.9, 0.4)
    single = Senses(np.zeros(3, np.int64), np.ones(1), 0.1, float("nan"))
    return sense_table(activity, activity.firings["features"], samples, [several, None, None, single], 5)


def test_what_is_known_of_each_unit(table: SenseTable) -> None:
    assert table.number.tolist() == [2, 0, 0, 1]
    assert table.known.tolist() == [True, False, False, True]
    assert table.effective[0] == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))
    assert np.isnan(table.effective[1:3]).all()
    assert table.effective[3] == 1
    assert np.isnan(table.separation[1:]).all()
    assert table.documents.tolist() == [3, 1, 0, 3]
    np.testing.assert_allclose(table.density, [4 / 600, 2 / 600, 0, 1], rtol=1e-6)


def test_token_entropy_weighs_by_activation(table: SenseTable) -> None:
    # Positions 110, 10, 60 have token 10, position 400 has token 0: 7/8 and 1/8 of the activation.
    assert table.token_entropy[0] == pytest.approx(-7 / 8 * np.log(7 / 8) - np.log(1 / 8) / 8)
    assert table.token_entropy[1] == 0
    assert np.isnan(table.token_entropy[2])
    assert table.token_entropy[3] == 0


def test_contexts_of_a_sense_come_strongest_first(table: SenseTable) -> None:
    first = table.sense(0, 0)
    assert first.position.tolist() == [110, 60]
    assert first.value.tolist() == [4, 2]
    assert table.sense(0, 1).position.tolist() == [10, 400]
    assert len(table.sense(0, 2)) == 0
    assert len(table.sense(1, 0)) == 0
    assert table.position[0].tolist() == [110, 10, 400, 60, -1]
    assert table.label[1].tolist() == [-1] * 5


def test_the_share_with_several_senses_is_of_those_known(table: SenseTable) -> None:
    assert table.share_polysemantic() == 0.5
    nobody = SenseTable.from_tensors({**table.to_tensors(), "number": np.zeros(4, np.int32)})
    assert np.isnan(nobody.share_polysemantic())


def test_arrays_go_out_and_come_back(table: SenseTable) -> None:
    again = SenseTable.from_tensors(table.to_tensors())
    for name, array in table.to_tensors().items():
        assert_array_equal(getattr(again, name), array)
