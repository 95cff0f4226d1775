"""The accumulator against an exhaustive search over all firings."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from onesense.errors import ConfigurationError
from onesense.features import firings
from onesense.features.bands import N_BINS, band_counts, band_limits, histogram_edges, octaves_of
from onesense.features.context_accumulator import (
    ContextAccumulator,
    ContextShape,
    ShardAccumulator,
    token_dtype,
)
from onesense.features.context_kernel import firing_priority
from onesense.features.context_shards import limit_tokens, plan_batches, plan_tables, row_chunks, window_table
from onesense.features.firings import NotFiniteError, firings_of
from onesense.text.windows import Window

N_IDS = 1000
MASK = 2**64 - 1


class Text(NamedTuple):
    windows: list[Window]
    latents: list[np.ndarray]  # one [length, n_features] for each window


@st.composite
def texts(draw: Any, n_features: int = 3, most_windows: int = 9) -> Text:
    """Documents cut into windows; activations from few values, so that ties are everywhere."""
    values = [0.0, 0.0, 0.0, 0.25, 0.5, 1.0, 1.5, 3.0, 40.0]
    windows, latents = [], []
    document, start = 0, 0
    for _ in range(draw(st.integers(1, most_windows))):
        length = draw(st.integers(1, 7))
        ids = draw(st.lists(st.integers(0, N_IDS - 1), min_size=length, max_size=length))
        windows.append(Window(document, start, ids))
        cells = draw(
            st.lists(st.sampled_from(values), min_size=length * n_features, max_size=length * n_features)
        )
        latents.append(np.array(cells, np.float32).reshape(length, n_features))
        start += length
        if draw(st.booleans()):
            document, start = document + draw(st.integers(1, 2)), 0
    return Text(windows, latents)


def collected(text: Text, shape: ContextShape, *, per_shard: int, batch: int, dtype=torch.float32):
    whole = ContextAccumulator(shape, token_dtype(N_IDS))
    for partial in partials(text, shape, per_shard=per_shard, batch=batch, dtype=dtype):
        whole.absorb(partial)
    whole.arrange()
    return whole


def partials(text: Text, shape: ContextShape, *, per_shard: int, batch: int, dtype=torch.float32):
    first = 0
    for table in plan_tables(text.windows, per_shard=per_shard, n_ids=N_IDS):
        shard = ShardAccumulator(shape, table)
        for rows in plan_batches(table.length.tolist(), batch):
            latents = np.concatenate([text.latents[first + row] for row in rows])
            window = np.concatenate([np.full(table.length[row], row, np.int32) for row in rows])
            position = np.concatenate([np.arange(table.length[row], dtype=np.int32) for row in rows])
            shard.update(firings_of(torch.from_numpy(latents).to(dtype), window, position))
            counted = len(latents)
            shard.count_tokens(seen=counted, counted=counted, outliers=0)
        first += len(table.document)
        yield shard.partial()


def python_priority(seed: int, feature: int, key: int) -> int:
    def mix(word: int) -> int:
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
        return word ^ (word >> 31)

    golden = 0x9E3779B97F4A7C15
    return mix(mix((seed + (feature + 1) * golden) & MASK) ^ mix((key + golden) & MASK))


class Firing(NamedTuple):
    value: float
    document: int
    position: int
    window: int
    offset: int

    @property
    def key(self) -> int:
        return self.document * 2**32 + self.position


def all_firings(text: Text, feature: int) -> list[Firing]:
    return [
        Firing(float(value), window.document, window.start + offset, index, offset)
        for index, (window, latents) in enumerate(zip(text.windows, text.latents, strict=True))
        for offset, value in enumerate(latents[:, feature])
        if value > 0
    ]


def expected_top(text: Text, feature: int, k: int) -> list[Firing]:
    ranked = sorted(all_firings(text, feature), key=lambda firing: (-firing.value, firing.key))
    best: dict[int, Firing] = {}
    for firing in ranked:
        best.setdefault(firing.document, firing)
    return list(best.values())[:k]


def expected_sample(text: Text, feature: int, shape: ContextShape) -> list[list[Firing]]:
    found = all_firings(text, feature)
    bands: list[list[Firing]] = [[] for _ in range(shape.bands)]
    if found:
        top = int(np.floor(np.log2(max(firing.value for firing in found))))
        for firing in found:
            bands[min(top - int(np.floor(np.log2(firing.value))), shape.bands - 1)].append(firing)
    order = {f: (python_priority(shape.seed, feature, f.key), f.key) for band in bands for f in band}
    return [sorted(band, key=order.__getitem__)[: shape.per_band] for band in bands]


def check_slots(text: Text, feature: int, width: int, arrays: dict, prefix: str, where: tuple, want: list):
    def column(name: str) -> np.ndarray:
        return arrays[f"{prefix}_{name}"][where]

    n = len(want)
    assert column("activation")[:n].tolist() == [firing.value for firing in want]
    assert column("document")[:n].tolist() == [firing.document for firing in want]
    assert column("position")[:n].tolist() == [firing.position for firing in want]
    assert (column("length")[n:] == 0).all()
    assert (column("activation")[n:] == 0).all()
    for slot, firing in enumerate(want):
        ids, latents = text.windows[firing.window].ids, text.latents[firing.window][:, feature]
        length, peak = int(column("length")[slot]), int(column("peak")[slot])
        first = firing.offset - peak
        assert length == min(width, len(ids))
        assert 0 <= first <= len(ids) - length
        assert column("tokens")[slot, :length].tolist() == ids[first : first + length]
        assert column("activations")[slot, :length].tolist() == latents[first : first + length].tolist()
        assert (column("tokens")[slot, length:] == np.iinfo(column("tokens").dtype).max).all()


@settings(max_examples=120, deadline=None)
@given(
    text=texts(),
    top_k=st.integers(1, 4),
    bands=st.integers(2, 5),
    per_band=st.integers(1, 4),
    width=st.integers(1, 9),
    seed=st.sampled_from([0, 1, 2**64 - 1]),
    per_shard=st.integers(1, 9),
    batch=st.sampled_from([1, 8, 10**6]),
)
def test_equals_an_exhaustive_search(text, top_k, bands, per_band, width, seed, per_shard, batch) -> None:
    shape = ContextShape(3, top_k, bands, per_band, width, seed)
    whole = collected(text, shape, per_shard=per_shard, batch=batch)
    arrays, statistics = whole.block(0, 3), whole.statistics()
    edges = histogram_edges()
    for feature in range(3):
        found = all_firings(text, feature)
        values = np.array([firing.value for firing in found])
        assert statistics["count"][feature] == len(found)
        assert statistics["maximum"][feature] == (values.max() if len(values) else 0)
        if len(values):
            assert statistics["mean"][feature] == pytest.approx(values.mean(), rel=1e-12)
            assert statistics["variance"][feature] == pytest.approx(values.var(), rel=1e-12, abs=1e-15)
        assert (whole.moments.histogram[feature] == np.histogram(values, edges)[0]).all()
        check_slots(text, feature, width, arrays, "top", (feature,), expected_top(text, feature, top_k))
        for band, want in enumerate(expected_sample(text, feature, shape)):
            check_slots(text, feature, width, arrays, "sample", (feature, band), want)
    assert statistics["tokens"][0] == sum(len(window.ids) for window in text.windows)


@settings(max_examples=60, deadline=None)
@given(text=texts(), per_shard=st.integers(1, 9), batch=st.integers(1, 40))
def test_partials_do_not_depend_on_the_batch(text, per_shard, batch) -> None:
    shape = ContextShape(3, 2, 3, 2, 4, 7)
    one = list(partials(text, shape, per_shard=per_shard, batch=1))
    other = list(partials(text, shape, per_shard=per_shard, batch=batch))
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        assert all(left[name].tobytes() == right[name].tobytes() for name in left)


@settings(max_examples=60, deadline=None)
@given(text=texts(), per_shard=st.integers(1, 4))
def test_contexts_do_not_depend_on_the_shards(text, per_shard) -> None:
    shape = ContextShape(3, 3, 3, 2, 5, 1)
    one = collected(text, shape, per_shard=100, batch=100)
    other = collected(text, shape, per_shard=per_shard, batch=100)
    left, right = one.block(0, 3), other.block(0, 3)
    assert all(left[name].tobytes() == right[name].tobytes() for name in left)
    assert (one.moments.fired == other.moments.fired).all()
    assert (one.moments.histogram == other.moments.histogram).all()
    np.testing.assert_allclose(one.statistics()["variance"], other.statistics()["variance"], atol=1e-12)


def test_variance_survives_a_large_mean() -> None:
    values = (np.float32(30000) + np.arange(40, dtype=np.float32) / 64).reshape(4, 10)
    text = Text([Window(d, 0, [1] * 10) for d in range(4)], [row[:, None] for row in values])
    whole = collected(text, ContextShape(1, 2, 2, 2, 4, 0), per_shard=2, batch=10)
    exact = values.astype(np.float64)
    assert whole.statistics()["mean"][0] == pytest.approx(exact.mean(), rel=1e-14)
    assert whole.statistics()["variance"][0] == pytest.approx(exact.var(), rel=1e-9)


def test_one_long_document_fills_one_place_at_the_top() -> None:
    windows = [Window(0, 4 * index, [index] * 4) for index in range(50)] + [Window(1, 0, [7] * 4)]
    latents = [np.full((4, 1), 1 + index, np.float32) for index in range(50)] + [
        np.full((4, 1), 0.5, np.float32)
    ]
    whole = collected(Text(windows, latents), ContextShape(1, 5, 2, 2, 4, 0), per_shard=7, batch=16)
    arrays = whole.block(0, 1)
    assert arrays["top_activation"][0].tolist() == [50.0, 0.5, 0, 0, 0]
    assert arrays["top_position"][0, 0] == 4 * 49  # the earliest of the four equal ones


def test_sample_is_uniform() -> None:
    # 4,000 features that all fire at the same 20 tokens, 5 kept of each: a token is kept about 1,000 times.
    n_features, n_tokens = 4000, 20
    windows = [Window(d, 0, [3] * 4) for d in range(n_tokens // 4)]
    latents = [np.ones((4, n_features), np.float32)] * len(windows)
    shape = ContextShape(n_features, 1, 2, 5, 2, 11)
    arrays = collected(Text(windows, latents), shape, per_shard=2, batch=8).block(0, n_features)
    token = (4 * arrays["sample_document"] + arrays["sample_position"])[:, 0]
    counts = np.bincount(token.reshape(-1), minlength=n_tokens)
    deviation = np.sqrt(n_features * 0.25 * 0.75)
    assert counts.sum() == 5 * n_features
    assert np.abs(counts - n_features / 4).max() < 5 * deviation
    # The order within a sample is random too: the first kept is uniform by itself.
    first = np.bincount(token[:, 0], minlength=n_tokens)
    assert np.abs(first - n_features / n_tokens).max() < 5 * np.sqrt(n_features / n_tokens)


def test_another_seed_gives_another_sample() -> None:
    text = Text([Window(d, 0, [1] * 5) for d in range(40)], [np.ones((5, 1), np.float32)] * 40)
    samples = {
        collected(text, ContextShape(1, 1, 2, 8, 2, seed), per_shard=40, batch=40)
        .block(0, 1)["sample_document"]
        .tobytes()
        for seed in range(4)
    }
    assert len(samples) == 4


def test_rising_maxima_push_old_bands_into_the_rest() -> None:
    values = [2.0**octave for octave in range(-6, 10)]
    text = Text([Window(d, 0, [d]) for d in range(16)], [np.array([[v]], np.float32) for v in values])
    shape = ContextShape(1, 1, 4, 20, 1, 0)
    arrays = collected(text, shape, per_shard=3, batch=1).block(0, 1)
    for band in range(3):
        assert arrays["sample_activation"][0, band, :2].tolist() == [values[-1 - band], 0.0]
    rest = arrays["sample_activation"][0, 3]
    assert sorted(rest[rest > 0].tolist()) == values[:13]


def test_memory_does_not_depend_on_the_text() -> None:
    shape = ContextShape(50, 4, 3, 3, 8, 0)
    sizes, partial_sizes = set(), set()
    generator = np.random.default_rng(0)
    for n_windows in (20, 400):
        windows = [Window(d, 0, [1] * 16) for d in range(n_windows)]
        latents = [np.maximum(generator.normal(size=(16, 50)), 0).astype(np.float32) for _ in windows]
        text = Text(windows, latents)
        sizes.add(collected(text, shape, per_shard=1000, batch=64).nbytes)
        partial = next(partials(text, shape, per_shard=1000, batch=64))
        tables = {name: array for name, array in partial.items() if not name.startswith("window_")}
        partial_sizes.add(sum(array.nbytes for array in tables.values()))
    assert len(sizes) == len(partial_sizes) == 1


def test_bfloat16_latents_are_read_exactly() -> None:
    generator = np.random.default_rng(1)
    latents = torch.from_numpy(generator.normal(size=(40, 37)).astype(np.float32)).bfloat16()
    window, position = np.zeros(40, np.int32), np.arange(40, dtype=np.int32)
    found = firings_of(latents, window, position)
    dense = np.zeros((40, 37), np.float32)
    dense[found.position, np.repeat(np.arange(37), np.diff(found.pointer))] = found.value
    assert (dense == torch.relu(latents).float().numpy()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("column", [0, 15, 16, 32])
def test_what_is_not_finite_is_found(dtype, bad, column) -> None:
    latents = torch.zeros(5, 33, dtype=dtype)
    latents[3, column] = bad
    with pytest.raises(NotFiniteError) as caught:
        firings_of(latents, np.zeros(5, np.int32), np.arange(5, dtype=np.int32))
    assert caught.value.token == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_device_lists_the_same_firings_as_the_cpu(dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    latents = torch.randn(30, 45, generator=generator).to(dtype)
    limit = torch.rand(45, generator=generator).to(dtype)
    for listed, scanned in zip(
        firings._listed(latents, limit), firings._scanned(latents, limit), strict=True
    ):
        assert listed.tolist() == scanned.tolist()
    latents[7, 3] = float("nan")
    with pytest.raises(NotFiniteError, match="token 7"):
        firings._listed(latents, limit)


def test_dense_latents_need_more_room_than_expected() -> None:
    latents = torch.rand(300, 200) + 0.1
    found = firings_of(latents, np.zeros(300, np.int32), np.arange(300, dtype=np.int32))
    assert len(found.value) == 60_000
    assert (found.value.reshape(200, 300) == latents.numpy().T).all()


def test_activations_beyond_float16_stay_exact_at_the_peak() -> None:
    text = Text([Window(0, 0, [1, 2, 3])], [np.array([[1.0], [300000.0], [70000.0]], np.float32)])
    arrays = collected(text, ContextShape(1, 1, 2, 1, 3, 0), per_shard=1, batch=3).block(0, 1)
    assert arrays["top_activation"][0, 0] == 300000.0
    assert arrays["top_activations"][0, 0].tolist() == [1.0, 65504.0, 65504.0]


@given(seed=st.integers(0, MASK), feature=st.integers(0, 2**31 - 1), key=st.integers(0, 2**63 - 1))
@settings(max_examples=50, deadline=None)
def test_priority_is_split_mix(seed, feature, key) -> None:
    assert int(firing_priority(np.uint64(seed), feature, key)) == python_priority(seed, feature, key)


@given(st.floats(min_value=2**-12, max_value=2**20, exclude_max=True, width=32))
def test_bands_and_bins_agree(value) -> None:
    histogram = np.histogram([value], histogram_edges())[0]
    assert histogram.sum() == 1
    assert len(histogram) == N_BINS
    for maximum in (value, 2.0**19):
        limits = band_limits(maximum, 4)
        counts = band_counts(histogram, maximum, 4)
        inside = [lower <= value < upper for lower, upper in limits]
        assert counts.tolist() == [int(flag) for flag in inside]


def test_extreme_activations_fall_into_the_outer_bins() -> None:
    assert octaves_of(np.array([1e-30, 2**-12, 1.0, 2**20, 1e30])).tolist() == [-12, -12, 0, 19, 19]
    text = Text([Window(0, 0, [1, 2, 3])], [np.array([[1e-30], [1.0], [1e30]], np.float32)])
    whole = collected(text, ContextShape(1, 1, 3, 2, 3, 0), per_shard=1, batch=3)
    histogram = whole.moments.histogram[0]
    assert histogram[0] == 1
    assert histogram[-1] == 1
    assert histogram.sum() == 3


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 100))
def test_batches_hold_every_window_in_one_order(lengths, most) -> None:
    batches = list(plan_batches(lengths, most))
    order = [window for batch in batches for window in batch]
    assert order == [window for batch in plan_batches(lengths, 1) for window in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[w] for w in batch) <= most for batch in batches)
    chunks = list(row_chunks(lengths, most))
    assert [row for chunk in chunks for row in range(len(lengths))[chunk]] == list(range(len(lengths)))


@given(st.lists(st.integers(0, 9), max_size=10), st.integers(1, 40))
def test_tokens_are_limited_exactly(lengths, most) -> None:
    windows = [Window(d, 0, list(range(length))) for d, length in enumerate(lengths)]
    kept = list(limit_tokens(windows, most))
    assert sum(len(window.ids) for window in kept) == min(most, sum(lengths))
    assert all(window.ids for window in kept)
    everything = list(limit_tokens(windows, None))
    assert [window for window in windows if window.ids] == everything


def test_documents_beyond_the_key_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="2\\^31"):
        window_table([Window(2**31, 0, [1])], n_ids=10)
    with pytest.raises(ConfigurationError, match="2\\^32"):
        window_table([Window(0, 2**32 - 1, [1, 2])], n_ids=10)
