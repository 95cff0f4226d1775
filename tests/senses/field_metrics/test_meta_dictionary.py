"""The meta dictionary: planted structure of known variance, no structure, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.senses.field_metrics.meta_dictionary import MetaSettings, meta_dictionary

WIDTH, ATOMS = 32, 20
SETTINGS = MetaSettings(
    width_share=0.1, k=2, steps=700, batch_size=256, learning_rate=4e-3, held_out=0.2, seed=0
)


def planted(n: int, noise_share: float, seed: int = 0) -> Tensor:
    """Rows that are sums of two orthonormal atoms, and noise with a known share of their variance."""
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.linalg.qr(torch.randn(WIDTH, ATOMS, generator=generator))[0].T
    pairs = torch.rand(n, ATOMS, generator=generator).topk(2, dim=1).indices
    signal = torch.nn.functional.normalize(atoms[pairs].sum(1), dim=1)
    noise = torch.nn.functional.normalize(torch.randn(n, WIDTH, generator=generator), dim=1)
    return signal * (1 - noise_share) ** 0.5 + noise * noise_share**0.5


def test_planted_structure_is_explained_up_to_its_noise() -> None:
    clean = meta_dictionary(planted(600, 0.0), settings=SETTINGS)
    noisy = meta_dictionary(planted(600, 0.4), settings=SETTINGS)
    assert clean.held_out.value > 0.9
    # two atoms also explain the little noise along them: 2 of 32 dimensions, a bit more if chosen
    assert 0.45 < noisy.held_out.value < 0.68
    assert noisy.held_out.low < noisy.held_out.value < noisy.held_out.high
    assert noisy.in_sample.value > noisy.held_out.value
    assert (clean.width, clean.trained_rows, clean.held_out_rows) == (60, 480, 120)


def test_rows_without_structure_are_not_explained_where_they_were_held_out() -> None:
    rows = torch.randn(600, WIDTH, generator=torch.Generator().manual_seed(1))
    found = meta_dictionary(rows, settings=SETTINGS)
    assert found.held_out.value < 0.3
    assert found.in_sample.value > found.held_out.high


def test_only_directions_of_live_rows_count_and_nothing_else_is_disturbed() -> None:
    quick = replace(SETTINGS, steps=30)
    rows = planted(200, 0.2)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    plain = meta_dictionary(rows, settings=quick)
    assert torch.equal(torch.rand(1), expected)
    stretched = torch.cat([rows * torch.linspace(0.5, 8, 200)[:, None], torch.zeros(5, WIDTH), rows[:3]])
    live = torch.arange(208) < 205
    again = meta_dictionary(stretched, live=live, settings=quick)
    assert again.trained_rows == plain.trained_rows
    assert again.held_out.value == pytest.approx(plain.held_out.value, abs=1e-4)


def test_the_same_seed_gives_the_same_numbers() -> None:
    quick = replace(SETTINGS, steps=20)
    rows = planted(150, 0.2)
    assert meta_dictionary(rows, settings=quick) == meta_dictionary(rows, settings=quick)
    assert meta_dictionary(rows, settings=quick) != meta_dictionary(rows, settings=replace(quick, seed=1))


def test_bad_input_is_refused() -> None:
    rows = planted(20, 0.2)
    with pytest.raises(ConfigurationError, match="20 live features"):
        meta_dictionary(rows, settings=MetaSettings(k=21))
    with pytest.raises(ConfigurationError, match="3 live features"):
        meta_dictionary(rows, live=torch.arange(20) < 3)
    with pytest.raises(NumericalError, match="NaN"):
        meta_dictionary(rows * torch.nan)
    with pytest.raises(IncompatibleError, match="live"):
        meta_dictionary(rows, live=torch.ones(19, dtype=torch.bool))
    for wrong in ({"k": 0}, {"held_out": 0.0}, {"width_share": 1.5}, {"learning_rate": 2.0}, {"steps": 0}):
        with pytest.raises(ConfigurationError):
            MetaSettings(**wrong)
