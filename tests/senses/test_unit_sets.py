"""Units whose senses are counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.senses.activity import firing_rates, rates_among
from onesense.senses.unit_sets import (
    UnitSet,
    feature_units,
    matched_thresholds,
    neuron_point,
    neuron_units,
    residual_units,
    usable_rows,
)
from onesense.text.windows import Window, iter_windows
from senses.planted_contexts import POINT, documents, sparse_dictionary
from tiny_dictionaries import random_dictionary
from tiny_models import make_byte_tokenizer, tiny_hf

DENSITIES = torch.tensor([0.01, 0.05, 0.2, 0.0], dtype=torch.float64)


def _windows(model: LanguageModel) -> list[Window]:
    return list(iter_windows(model, documents(20), context_size=64))


def _rows(model: LanguageModel, point: HookPoint) -> torch.Tensor:
    return usable_rows(model, [point], _windows(model))[point]


@given(
    st.lists(st.floats(0.001, 0.5), min_size=1, max_size=6),
    st.integers(50, 400),
    st.integers(1, 8),
    st.integers(0, 99),
)
def test_thresholds_give_the_densities_that_were_drawn(
    densities: list[float], positions: int, units: int, seed: int
) -> None:
    values = torch.randn(positions, units, generator=torch.Generator().manual_seed(seed)).abs()
    found = matched_thresholds(values, torch.tensor(densities, dtype=torch.float64), seed=seed)
    counts = (values > found).sum(0).tolist()
    wanted = [max(1, round(density * positions)) for density in densities]
    assert set(counts) <= set(wanted)
    if units >= len(densities):
        assert set(counts) == set(wanted)


def test_each_density_is_drawn_once_before_any_is_drawn_again() -> None:
    values = torch.rand(1000, 7, generator=torch.Generator().manual_seed(0))
    found = matched_thresholds(values, DENSITIES, seed=0)
    counts = sorted((values > found).sum(0).tolist())
    assert {counts.count(one) for one in (10, 50, 200)} <= {2, 3}
    assert len(counts) == sum(counts.count(one) for one in (10, 50, 200))


def test_thresholds_are_never_negative_and_the_draw_hangs_on_the_seed() -> None:
    values = torch.rand(100, 30, generator=torch.Generator().manual_seed(0)) - 0.999
    assert matched_thresholds(values, torch.tensor([0.5]), seed=0).min() >= 0
    one, again, other = (matched_thresholds(values + 1, DENSITIES, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_without_a_feature_that_fires_there_is_no_density() -> None:
    with pytest.raises(ConfigurationError, match="No feature fires"):
        matched_thresholds(torch.rand(10, 3), torch.zeros(4), seed=0)


def test_features_write_their_decoder_rows() -> None:
    dictionary = random_dictionary(d_in=32)
    units = feature_units(dictionary)
    assert (units.name, units.n_units) == ("features", dictionary.d_sae)
    assert_close(units.directions, torch.nn.functional.normalize(dictionary.W_dec, dim=1))


@pytest.mark.parametrize("suffix", ["mlp.hook_post", "attn.hook_z", "hook_mlp_out"])
def test_features_elsewhere_than_in_the_stream_are_refused(suffix: str, tiny_llama: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="not in the residual stream"):
        feature_units(random_dictionary(hook_point=HookPoint(1, suffix)))
    with pytest.raises(ConfigurationError, match="not in the residual stream"):
        residual_units(HookPoint(1, suffix), torch.zeros(9, 32), DENSITIES)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_neurons_write_the_rows_of_the_down_projection(
    family: str, tiny_model: Callable[[str], LanguageModel]
) -> None:
    model = tiny_model(family)
    units = neuron_units(model, 1, _rows(model, neuron_point(1)), DENSITIES)
    rows = {
        "gpt2": lambda hf: hf.transformer.h[1].mlp.c_proj.weight,
        "llama": lambda hf: hf.model.layers[1].mlp.down_proj.weight.T,
        "gpt_neox": lambda hf: hf.gpt_neox.layers[1].mlp.dense_4h_to_h.weight.T,
    }[family](model.hf)
    assert units.directions.shape == rows.shape
    assert_close(units.directions, torch.nn.functional.normalize(rows.detach(), dim=1), atol=1e-4, rtol=1e-3)
    assert units.dictionary.hook_point == HookPoint(1, "mlp.hook_post")


def test_neurons_and_coordinates_fire_as_often_as_features(tiny_llama: LanguageModel) -> None:
    windows = _windows(tiny_llama)
    densities = torch.tensor([0.01, 0.05], dtype=torch.float64)
    for units in (
        neuron_units(tiny_llama, 1, _rows(tiny_llama, neuron_point(1)), densities),
        residual_units(POINT, _rows(tiny_llama, POINT), densities),
    ):
        rates = firing_rates(tiny_llama, units.dictionary, windows).numpy()
        near = np.minimum(abs(rates - 0.01), abs(rates - 0.05))
        # A unit that is negative nearly always cannot fire so often.
        assert np.mean(near < 0.001) > 0.9
        assert rates.max() < 0.051


def test_the_residual_basis_is_the_coordinates(tiny_llama: LanguageModel) -> None:
    units = residual_units(POINT, _rows(tiny_llama, POINT), DENSITIES)
    assert units.name == "residual basis"
    assert torch.equal(units.directions, torch.eye(32))
    rows = torch.randn(50, 32, generator=torch.Generator().manual_seed(0)) * 5
    latents = units.dictionary.encode(rows)
    assert_close(latents, rows * (rows > units.dictionary.threshold))


def test_several_points_are_read_as_each_alone(tiny_llama: LanguageModel) -> None:
    points = [POINT, neuron_point(1)]
    both = usable_rows(tiny_llama, points, _windows(tiny_llama))
    assert list(both) == points
    for point in points:
        assert torch.equal(both[point], _rows(tiny_llama, point))
    dictionary = random_dictionary(d_in=32, hook_point=POINT)
    rates = rates_among(dictionary, both[POINT])
    assert_close(rates, firing_rates(tiny_llama, dictionary, _windows(tiny_llama)))
    assert 0 < float(rates.mean()) < 1


def test_without_text_there_is_no_threshold(tiny_llama: LanguageModel) -> None:
    with pytest.raises(ConfigurationError, match="no text"):
        usable_rows(tiny_llama, [POINT], [])


def test_directions_must_belong_to_the_units() -> None:
    with pytest.raises(IncompatibleError, match="do not belong together"):
        UnitSet("features", random_dictionary(d_sae=40), torch.zeros(39, 12))


def test_damaged_weights_are_told() -> None:
    model = LanguageModel.from_hf(tiny_hf("llama"), make_byte_tokenizer(), "damaged")
    dictionary, windows = sparse_dictionary(model), _windows(model)
    with torch.no_grad():
        model.hf.model.layers[1].mlp.down_proj.weight[3, 5] = float("nan")
    with pytest.raises(NumericalError, match="NaN or infinity"):
        usable_rows(model, [POINT], windows)
    with pytest.raises(NumericalError, match="NaN or infinity"):
        firing_rates(model, dictionary, windows)
