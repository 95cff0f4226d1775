from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError, NumericalError
from onesense.features import lens
from onesense.features.lens import TOKENS_PER_BLOCK, LensStatistics, lens_statistics
from onesense.model.language_model import LanguageModel
from onesense.model.unembedding import unembedding


def random_pair(features: int, width: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.randn(features, width, generator=generator)
    W_U = torch.randn(width, tokens, generator=generator) ** 3  # heavy tails, as unembeddings have
    return decoder, W_U


def assert_moments(statistics: LensStatistics, logits: np.ndarray[Any, Any], rtol: float = 1e-5) -> None:
    np.testing.assert_allclose(statistics.mean, logits.mean(1), rtol=rtol, atol=rtol * logits.std())
    np.testing.assert_allclose(statistics.std, logits.std(1), rtol=rtol)
    np.testing.assert_allclose(statistics.skewness, scipy.stats.skew(logits, axis=1), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(
        statistics.kurtosis, scipy.stats.kurtosis(logits, axis=1, fisher=False), rtol=rtol
    )


@pytest.mark.parametrize("tokens", [1, 2, 37, TOKENS_PER_BLOCK, TOKENS_PER_BLOCK + 1, 3000])
def test_moments_equal_scipy_on_the_product_in_float64(tokens: int) -> None:
    decoder, W_U = random_pair(50, 24, tokens)
    statistics = lens_statistics(decoder, W_U, k=1)
    if tokens > 1:
        assert_moments(statistics, (decoder.double() @ W_U.double()).numpy())
    if tokens == 1:
        assert (statistics.std == 0).all()
        assert np.isnan(statistics.kurtosis).all()


@pytest.mark.parametrize("shift", [0.0, 10.0, -100.0])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_moments_hold_for_logits_far_from_zero_and_of_any_size(shift: float, size: float) -> None:
    generator = torch.Generator().manual_seed(1)
    decoder = size * torch.rand(20, 8, generator=generator)
    W_U = shift + torch.randn(8, 2500, generator=generator)
    statistics = lens_statistics(decoder, W_U, k=3)
    # The float32 product itself loses as many digits as the mean is larger than the spread.
    exact = (decoder.double() @ W_U.double()).numpy()
    rtol = 1e-5 * max(1.0, abs(shift) / 10)
    np.testing.assert_allclose(statistics.mean, exact.mean(1), rtol=1e-5, atol=1e-6 * exact.std())
    np.testing.assert_allclose(statistics.std, exact.std(1), rtol=rtol)
    np.testing.assert_allclose(statistics.skewness, scipy.stats.skew(exact, axis=1), atol=10 * rtol)
    np.testing.assert_allclose(
        statistics.kurtosis, scipy.stats.kurtosis(exact, axis=1, fisher=False), rtol=10 * rtol
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, 2 * TOKENS_PER_BLOCK + 100),
    levels=st.integers(1, 2),
    k=st.integers(1, 25),
    dtype=st.sampled_from(["float32", "bfloat16"]),
)
def test_top_and_bottom_equal_an_exhaustive_stable_sort_with_ties(
    seed: int, tokens: int, levels: int, k: int, dtype: Any
) -> None:
    """Small whole numbers multiply exactly in either format, so that equal logits are equal to the bit."""
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.randint(-levels, levels + 1, (5, 4), generator=generator).float()
    W_U = torch.randint(-levels, levels + 1, (4, tokens), generator=generator).float()
    k = min(k, tokens)
    statistics = lens_statistics(decoder, W_U, k=k, dtype=dtype)
    logits = decoder @ W_U
    values, ids = torch.sort(logits, dim=1, descending=True, stable=True)
    assert (statistics.top_ids == ids[:, :k].numpy()).all()
    assert (statistics.top_values == values[:, :k].numpy()).all()
    values, ids = torch.sort(logits, dim=1, stable=True)
    assert (statistics.bottom_ids == ids[:, :k].numpy()).all()
    assert (statistics.bottom_values == values[:, :k].numpy()).all()


def test_top_tokens_of_real_numbers_equal_a_full_sort() -> None:
    decoder, W_U = random_pair(40, 16, 2 * TOKENS_PER_BLOCK + 7)
    statistics = lens_statistics(decoder, W_U, k=10)
    values, ids = (decoder @ W_U).sort(dim=1, descending=True, stable=True)
    assert (statistics.top_ids == ids[:, :10].numpy()).all()
    np.testing.assert_allclose(statistics.top_values, values[:, :10].numpy(), rtol=1e-5)
    assert (statistics.bottom_ids == ids.flip(1)[:, :10].numpy()).all()


def test_k_may_be_the_whole_vocabulary() -> None:
    decoder, W_U = random_pair(3, 8, 21)
    statistics = lens_statistics(decoder, W_U, k=21)
    assert (np.sort(statistics.top_ids, axis=1) == np.arange(21)).all()
    assert (statistics.top_ids == statistics.bottom_ids[:, ::-1]).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tile_rows", [1, 7, 128, 1000])
def test_tile_size_does_not_change_results(dtype: Any, tile_rows: int) -> None:
    decoder, W_U = random_pair(130, 16, 1500)
    whole = lens_statistics(decoder, W_U, dtype=dtype).to_tensors()
    tiled = lens_statistics(decoder, W_U, dtype=dtype, tile_rows=tile_rows).to_tensors()
    for name, expected in whole.items():
        if name.endswith("ids"):
            assert (tiled[name] == expected).all()
        else:
            np.testing.assert_allclose(tiled[name], expected, rtol=1e-5, atol=1e-6)


def threads_of_a_new_thread() -> int:
    seen: list[int] = []
    fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    return seen[0]


def test_number_of_threads_does_not_change_a_single_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, W_U = random_pair(60, 16, 1500)
    scan_block = lens.scan_block
    inside: set[int] = set()

    def watched(*arguments: Any, **state: Any) -> None:
        inside.add(torch.get_num_threads())
        scan_block(*arguments, **state)

    monkeypatch.setattr(lens, "scan_block", watched)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(lens_statistics(decoder, W_U, tile_rows=8).to_tensors())
            assert torch.get_num_threads() == threads
            assert threads_of_a_new_thread() == threads
    finally:
        torch.set_num_threads(before)
    assert inside == {1}
    for name, expected in results[0].items():
        assert results[1][name].tobytes() == expected.tobytes()


def test_workers_that_have_nothing_to_do_do_not_keep_the_call() -> None:
    """The work may be over before the last worker has woken up from its start."""
    decoder, W_U = random_pair(1, 4, 10)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        for _ in range(200):
            assert lens_statistics(decoder, W_U, k=1).n_features == 1
    finally:
        torch.set_num_threads(before)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lens")]


def test_calls_from_several_threads_do_not_disturb_each_other() -> None:
    decoder, W_U = random_pair(40, 16, 1500)
    expected = lens_statistics(decoder, W_U, tile_rows=8)
    results: list[LensStatistics] = []
    before = torch.get_num_threads()
    callers = [
        threading.Thread(target=lambda: results.append(lens_statistics(decoder, W_U, tile_rows=8)))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert torch.get_num_threads() == before
    assert len(results) == 4
    for result in results:
        assert (result.top_ids == expected.top_ids).all()
        assert result.kurtosis.tobytes() == expected.kurtosis.tobytes()


def test_bfloat16_is_close_to_float32() -> None:
    decoder, W_U = random_pair(60, 64, 4000)
    full = lens_statistics(decoder, W_U)
    half = lens_statistics(decoder, W_U, dtype="bfloat16")
    assert not np.array_equal(full.std, half.std)
    np.testing.assert_allclose(half.std, full.std, rtol=0.01)
    np.testing.assert_allclose(half.mean, full.mean, atol=0.01 * full.std.max())
    np.testing.assert_allclose(half.skewness, full.skewness, atol=0.1)
    np.testing.assert_allclose(half.kurtosis, full.kurtosis, rtol=0.03)
    np.testing.assert_allclose(half.top_values[:, 0], full.top_values[:, 0], rtol=0.02)
    shared = [len(set(a) & set(b)) for a, b in zip(full.top_ids, half.top_ids, strict=True)]
    assert np.mean(shared) > 9


def test_features_of_a_folded_model_have_mean_zero_and_a_raw_one_has_not(tiny_gpt2: LanguageModel) -> None:
    decoder = torch.randn(30, tiny_gpt2.d_model, generator=torch.Generator().manual_seed(5))
    folded = lens_statistics(decoder, unembedding(tiny_gpt2))
    raw = lens_statistics(decoder, unembedding(tiny_gpt2, convention="raw"))
    assert np.abs(folded.mean).max() < 1e-6 * folded.std.max()
    assert np.abs(raw.mean).max() > 1e-3 * raw.std.max()
    assert np.abs(folded.kurtosis - raw.kurtosis).max() > 1e-3
    assert folded.top_ids.max() < tiny_gpt2.vocab_size


def test_a_zero_row_has_no_spread_and_no_shape() -> None:
    decoder, W_U = random_pair(4, 8, 1200)
    decoder[2] = 0
    statistics = lens_statistics(decoder, W_U, k=3)
    assert statistics.mean[2] == 0
    assert statistics.std[2] == 0
    assert np.isnan(statistics.skewness[2])
    assert np.isnan(statistics.kurtosis[2])
    assert statistics.top_ids[2].tolist() == [0, 1, 2]
    assert statistics.bottom_ids[2].tolist() == [0, 1, 2]
    others = [0, 1, 3]
    assert np.isfinite(statistics.kurtosis[others]).all()


def test_equal_columns_are_a_constant_and_not_an_overflow() -> None:
    decoder, column = random_pair(6, 8, 1)
    statistics = lens_statistics(decoder, column.expand(8, 300).contiguous(), k=2)
    np.testing.assert_allclose(statistics.mean, (decoder @ column)[:, 0].numpy(), rtol=1e-5)
    assert (statistics.std < 1e-5 * np.abs(statistics.mean)).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_damaged_decoder_row_is_named(bad: float) -> None:
    decoder, W_U = random_pair(300, 8, 100)
    decoder[277, 3] = bad
    with pytest.raises(NumericalError, match="decoder row of feature 277"):
        lens_statistics(decoder, W_U, tile_rows=50)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_damaged_unembedding_is_named_as_such(bad: float) -> None:
    decoder, W_U = random_pair(3, 8, 100)
    W_U[5, 42] = bad
    with pytest.raises(NumericalError, match="unembedding holds NaN or infinity at token 42"):
        lens_statistics(decoder, W_U)


def test_logits_beyond_float32_are_an_error_and_not_a_number() -> None:
    decoder, W_U = random_pair(3, 8, 100)
    decoder[1] *= 1e38
    with pytest.raises(NumericalError, match="logits of feature 1 are too large"):
        lens_statistics(decoder, W_U * 1e3)


@pytest.mark.parametrize("k", [0, -1, 101])
def test_k_outside_the_vocabulary_is_refused(k: int) -> None:
    with pytest.raises(ConfigurationError, match="vocabulary of 100") as caught:
        lens_statistics(*random_pair(3, 8, 100), k=k)
    assert caught.value.hint == "Choose between 1 and 100."


def test_arguments_that_do_not_fit_are_refused() -> None:
    decoder, W_U = random_pair(3, 8, 100)
    with pytest.raises(IncompatibleError, match=r"\[3, 7\] does not fit an unembedding \[8, 100\]"):
        lens_statistics(decoder[:, :7], W_U)
    with pytest.raises(IncompatibleError, match="does not fit"):
        lens_statistics(decoder[0], W_U)
    with pytest.raises(ConfigurationError, match="float64"):
        lens_statistics(decoder, W_U, dtype="float64")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="0 features"):
        lens_statistics(decoder, W_U, tile_rows=0)


def test_inputs_of_other_layouts_and_formats_are_read_right() -> None:
    decoder, W_U = random_pair(20, 8, 1100)
    expected = lens_statistics(decoder, W_U)
    wide = torch.nn.Parameter(decoder.double().T.contiguous()).T
    statistics = lens_statistics(wide, W_U.T.contiguous().T)
    assert (statistics.top_ids == expected.top_ids).all()
    np.testing.assert_allclose(statistics.kurtosis, expected.kurtosis, rtol=1e-5)


def test_progress_ends_at_all_features_and_an_error_in_it_stops_the_work() -> None:
    decoder, W_U = random_pair(25, 8, 100)
    seen: list[tuple[int, int]] = []
    lens_statistics(decoder, W_U, tile_rows=10, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(10, 25), (20, 25), (25, 25)]

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lens_statistics(decoder, W_U, tile_rows=1, progress=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lens")]


def test_no_features_give_empty_statistics() -> None:
    statistics = lens_statistics(torch.empty(0, 8), torch.randn(8, 50), k=4)
    assert statistics.n_features == 0
    assert statistics.k == 4


def test_tensors_survive_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    statistics = lens_statistics(*random_pair(9, 8, 60), k=4)
    save_file(statistics.to_tensors(), tmp_path / "lens.safetensors")
    again = LensStatistics.from_tensors(load_file(tmp_path / "lens.safetensors"))
    assert again.n_features == 9
    assert again.k == 4
    for name, expected in statistics.to_tensors().items():
        assert again.to_tensors()[name].tobytes() == expected.tobytes()
        assert again.to_tensors()[name].dtype == expected.dtype


def test_tensors_that_do_not_belong_together_are_refused() -> None:
    tensors = lens_statistics(*random_pair(9, 8, 60), k=4).to_tensors()
    with pytest.raises(IncompatibleError, match="lack kurtosis, top_ids"):
        LensStatistics.from_tensors({n: t for n, t in tensors.items() if n not in ("kurtosis", "top_ids")})
    with pytest.raises(IncompatibleError, match="do not belong together"):
        LensStatistics.from_tensors({**tensors, "std": tensors["std"][:5]})


def test_words_spell_the_top_tokens_in_order() -> None:
    decoder, W_U = torch.eye(2), torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 5.0]])
    statistics = lens_statistics(decoder, W_U, k=2)
    assert statistics.words(0, ["Ġa", "Ġb", "c"]) == ["Ġb", "c"]
    assert statistics.words(1, ["Ġa", "Ġb", "c"]) == ["c", "Ġa"]
    for feature in (-1, 2):
        with pytest.raises(NotFoundError, match=f"no feature {feature}"):
            statistics.words(feature, ["Ġa", "Ġb", "c"])
    with pytest.raises(IncompatibleError, match="vocabulary has 2 tokens"):
        statistics.words(0, ["Ġa", "Ġb"])


def test_rows_are_asked_for_a_few_at_a_time() -> None:
    decoder, W_U = torch.randn(50, 8), torch.randn(8, 30)
    asked = []

    class OnDisk:
        shape = (50, 8)

        def __getitem__(self, rows: slice, /) -> torch.Tensor:
            asked.append(rows.stop - rows.start)
            return decoder[rows]

    found = lens_statistics(OnDisk(), W_U, k=3, tile_rows=16)
    whole = lens_statistics(decoder, W_U, k=3, tile_rows=16)
    assert max(asked) == 16
    assert sum(asked) == 50
    for name, array in whole.to_tensors().items():
        assert np.array_equal(array, found.to_tensors()[name]), name
