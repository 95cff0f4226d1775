"""Decoder cosines against the naive computation, dead features, and scale."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.senses.field_metrics.cosines import decoder_cosines


def random_rows(n: int, width: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@given(st.integers(2, 25), st.integers(1, 30), st.integers(0, 5))
def test_blocks_of_any_size_give_the_naive_result(n: int, block: int, seed: int) -> None:
    rows = random_rows(n, seed=seed)
    naive = torch.nn.functional.cosine_similarity(rows[:, None].double(), rows[None].double(), dim=-1)
    naive.fill_diagonal_(-2)
    found = decoder_cosines(rows, block=block)
    torch.testing.assert_close(found.largest, naive.amax(1), atol=1e-6, rtol=0)
    assert torch.equal(found.nearest, naive.argmax(1))
    assert found.encoder.isnan().all()


def test_dead_features_have_no_number_and_are_nobodys_neighbour() -> None:
    rows = random_rows(6)
    rows[1] = rows[0] + 0.01
    rows[4] = 0
    live = torch.tensor([True, False, True, True, True, True])
    found = decoder_cosines(rows, rows.T.contiguous(), live=live, block=2)
    for dead in (1, 4):
        assert found.largest[dead].isnan()
        assert found.encoder[dead].isnan()
        assert found.nearest[dead] == -1
    assert not set(found.nearest.tolist()) & {1, 4}
    assert found.largest[[0, 2, 3, 5]].isfinite().all()


def test_the_encoder_is_compared_with_its_own_row() -> None:
    rows = random_rows(8)
    encoder = random_rows(8, seed=1).T.contiguous()
    encoder[:, 2] = -3 * rows[2]
    found = decoder_cosines(rows, encoder, block=3).encoder
    expected = torch.nn.functional.cosine_similarity(rows.double(), encoder.T.double())
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    assert found[2] == pytest.approx(-1)


def test_an_encoder_of_zeros_has_no_cosine() -> None:
    encoder = random_rows(4, seed=1).T.contiguous()
    encoder[:, 3] = 0
    found = decoder_cosines(random_rows(4), encoder).encoder
    assert found[3].isnan()
    assert found[:3].isfinite().all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_and_number_format_change_nothing(scale: float) -> None:
    rows = random_rows(10)
    plain = decoder_cosines(rows)
    scaled = decoder_cosines(rows * scale)
    torch.testing.assert_close(plain.largest, scaled.largest, atol=1e-5, rtol=0)
    assert torch.equal(plain.nearest, scaled.nearest)
    half = decoder_cosines(rows.bfloat16())
    torch.testing.assert_close(plain.largest, half.largest, atol=0.02, rtol=0)


def test_equal_rows_are_each_others_neighbours() -> None:
    rows = random_rows(5)
    rows[3] = 2 * rows[0]
    found = decoder_cosines(rows, block=2)
    assert found.nearest[[0, 3]].tolist() == [3, 0]
    assert found.largest[[0, 3]].tolist() == pytest.approx([1, 1])


def test_bad_input_is_refused() -> None:
    rows = random_rows(4)
    with pytest.raises(IncompatibleError, match="encoder"):
        decoder_cosines(rows, rows)
    with pytest.raises(IncompatibleError, match="live"):
        decoder_cosines(rows, live=torch.ones(3, dtype=torch.bool))
    with pytest.raises(NumericalError, match="decoder"):
        decoder_cosines(rows * torch.nan)
    with pytest.raises(ConfigurationError, match="block"):
        decoder_cosines(rows, block=0)
    with pytest.raises(ConfigurationError, match="1 live"):
        decoder_cosines(rows, live=torch.tensor([True, False, False, False]))
