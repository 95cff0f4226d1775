"""Dictionaries that are looked at part by part, and several of them together."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from onesense.engine.executor import LocalExecutor
from onesense.errors import ConfigurationError
from onesense.features.context_kernel import feature_seed, firing_priority
from onesense.features.context_pass import ContextPass
from onesense.features.context_store import FEATURES_PER_BLOCK
from onesense.features.contexts import Contexts, ContextSettings, collect_contexts_together
from onesense.features.feature_parts import plan_parts
from onesense.model.batching import SmallerBatchWarning
from onesense.model.hook_points import HookPoint
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.sae.origin import Origin
from tests.features.tiny_contexts import SETTINGS, collected, files, new_run, word_documents, word_model

WIDE = 3 * FEATURES_PER_BLOCK - 40
IN_PARTS = replace(SETTINGS, features_at_once=FEATURES_PER_BLOCK)
POINTS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")


def wide_dictionary(
    architecture: Architecture = Architecture.RELU, point: str = POINTS[1], seed: int = 5, **more
) -> Dictionary:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(16, WIDE, generator=generator)
    per_feature = torch.rand(WIDE, generator=generator)
    rules = {
        Architecture.RELU: {"b_enc": -4 * per_feature},
        Architecture.JUMPRELU: {"b_enc": -per_feature, "threshold": 3 * per_feature},
        Architecture.GATED: {"b_enc": -4 * per_feature, "b_mag": per_feature, "r_mag": per_feature},
        Architecture.TOPK: {"b_enc": per_feature, "k": 7},
    }
    return Dictionary(
        architecture,
        HookPoint.parse(point),
        W_enc=weights,
        W_dec=weights.T.contiguous() * (0.5 + per_feature[:, None]),
        b_dec=torch.full((16,), 0.1),
        origin=Origin(context_size=None),
        **{**rules[architecture], **more},
    )


def assert_same(one: Contexts, other: Contexts) -> None:
    np.testing.assert_array_equal(one.count, other.count)
    np.testing.assert_allclose(one.maximum, other.maximum, rtol=1e-5)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5)
    assert (one.tokens_counted, one.tokens_seen, one.outliers) == (
        other.tokens_counted,
        other.tokens_seen,
        other.outliers,
    )
    for feature in range(0, one.n_features, 37):
        assert one.band_counts(feature).tolist() == other.band_counts(feature).tolist()
        for band in range(one.n_bands):
            assert [(c.document, c.position) for c in one.sample(feature, band)] == [
                (c.document, c.position) for c in other.sample(feature, band)
            ]
        for mine, theirs in zip(one.top(feature), other.top(feature), strict=True):
            assert mine.activation == pytest.approx(theirs.activation, rel=1e-5)


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        (Architecture.RELU, {}),
        (Architecture.JUMPRELU, {}),
        (Architecture.GATED, {}),
        (Architecture.TOPK, {}),
        (Architecture.TOPK, {"rescale_by_decoder_norm": True}),
        (Architecture.TOPK, {"k": WIDE - 3}),
    ],
    ids=str,
)
def test_parts_find_what_the_whole_finds(tmp_path, architecture, more) -> None:
    dictionary = wide_dictionary(architecture, **more)
    whole = collected(tmp_path / "whole", dictionary=dictionary)
    parts = collected(tmp_path / "parts", dictionary=dictionary, settings=IN_PARTS)
    assert whole.count.sum() > 1000
    if architecture is Architecture.TOPK and "k" not in more:
        assert whole.count.sum() == 7 * whole.tokens_counted
    assert_same(whole, parts)


def test_parts_go_on_in_the_same_bytes(tmp_path) -> None:
    dictionary = wide_dictionary(Architecture.TOPK)
    collected(tmp_path / "whole", dictionary=dictionary, settings=IN_PARTS)

    class Stopping(LocalExecutor):
        def map_shards(self, function, shards):
            for number, result in enumerate(super().map_shards(function, shards)):
                yield result
                if number == 3:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collected(tmp_path / "run", dictionary=dictionary, settings=IN_PARTS, executor=Stopping())
    assert len(list((tmp_path / "run/partials").glob("*.safetensors"))) == 4
    collected(tmp_path / "run", dictionary=dictionary, settings=IN_PARTS, executor=LocalExecutor(2))
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_a_shard_goes_through_the_model_once(tmp_path, monkeypatch) -> None:
    from onesense.features import context_pass

    seen = []

    def counting(model, points, windows):
        seen.append(len(windows))
        return real(model, points, windows)

    real = context_pass.read_windows
    monkeypatch.setattr(context_pass, "read_windows", counting)
    collected(tmp_path / "whole", dictionary=wide_dictionary())
    once = sum(seen)
    seen.clear()
    collected(tmp_path / "parts", dictionary=wide_dictionary(), settings=IN_PARTS)
    assert sum(seen) == once


def together(tmp_path, dictionaries, settings=SETTINGS, **more) -> list[Contexts]:
    runs = [new_run(tmp_path / f"run-{index}") for index in range(len(dictionaries))]
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.lock())
        return collect_contexts_together(
            word_model(),
            list(zip(dictionaries, runs, strict=True)),
            word_documents(),
            settings=settings,
            **more,
        )


def test_each_of_several_dictionaries_gets_what_it_gets_alone(tmp_path) -> None:
    dictionaries = [wide_dictionary(Architecture.TOPK, POINTS[0]), wide_dictionary(seed=6), wide_dictionary()]
    together(tmp_path, dictionaries, IN_PARTS)
    for index, dictionary in enumerate(dictionaries):
        collected(tmp_path / f"alone-{index}", dictionary=dictionary, settings=IN_PARTS)
        assert files(tmp_path / f"alone-{index}") == files(tmp_path / f"run-{index}")


def test_one_of_several_that_is_finished_is_left_alone(tmp_path, monkeypatch) -> None:
    dictionaries = [wide_dictionary(point=POINTS[0]), wide_dictionary()]
    collected(tmp_path / "run-1", dictionary=dictionaries[1])
    there = files(tmp_path / "run-1")
    seen = set()
    real = ContextPass.__call__
    monkeypatch.setattr(
        ContextPass, "__call__", lambda self, item: (seen.update(self.dictionaries), real(self, item))[1]
    )
    together(tmp_path, dictionaries)
    assert seen == {dictionaries[0]}
    assert files(tmp_path / "run-1") == there


def test_progress_of_several_ends_at_the_tokens_of_the_text(tmp_path) -> None:
    told: list[tuple[int, int | None]] = []
    dictionaries = [wide_dictionary(point=POINTS[0]), wide_dictionary()]
    found = together(
        tmp_path, dictionaries, replace(IN_PARTS, max_tokens=50), progress=lambda *now: told.append(now)
    )
    assert told[-1] == (50, 50)
    assert found[0].tokens_seen == 50
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_contexts_of_several_sizes_are_refused(tmp_path) -> None:
    dictionaries = [replace(wide_dictionary(), origin=Origin(context_size=size)) for size in (8, 16)]
    settings = replace(SETTINGS, context_size=None)
    with pytest.raises(ConfigurationError, match="contexts of 8 and 16 tokens") as refused:
        together(tmp_path, dictionaries, settings)
    assert "--context-size" in str(refused.value.hint)
    together(tmp_path, dictionaries, replace(settings, context_size=8))


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=4), st.integers(1, 2000))
def test_parts_hold_every_feature_once(widths, at_once) -> None:
    parts = plan_parts(widths, at_once)
    for index, width in enumerate(widths):
        own = [part for part in parts if part.dictionary == index]
        assert [f for part in own for f in range(part.start, part.stop)] == list(range(width))
        assert all(part.start % FEATURES_PER_BLOCK == 0 for part in own)
        assert all(part.n_features <= max(at_once, FEATURES_PER_BLOCK) for part in own)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**30), st.integers(0, 2**20), st.integers(0, 2**63 - 1))
@hypothesis_settings(max_examples=50, deadline=None)
def test_a_sample_does_not_depend_on_the_part(seed, first, feature, key) -> None:
    inside = firing_priority(np.uint64(feature_seed(seed, first)), feature, key)
    assert inside == firing_priority(np.uint64(seed), first + feature, key)


@pytest.mark.parametrize("wrong", [0, -1])
def test_no_features_at_once_are_refused(wrong) -> None:
    with pytest.raises(ConfigurationError, match="features_at_once"):
        ContextSettings(features_at_once=wrong)


def test_another_process_does_the_same_parts(tmp_path) -> None:
    import pickle

    class Sending(LocalExecutor):
        """Sends the pass anew for every second part, as a machine does that joins late."""

        in_process = False

        def map_shards(self, function, shards):
            for number, shard in enumerate(shards):
                if number % 2 == 0:
                    sent = pickle.dumps(replace(function, model=None))
                    there = replace(pickle.loads(sent), model=function.model)  # noqa: S301 - our own
                yield there(shard)

    for architecture in (Architecture.RELU, Architecture.TOPK):
        given = {"dictionary": wide_dictionary(architecture), "settings": IN_PARTS}
        collected(tmp_path / f"here-{architecture}", **given)
        collected(tmp_path / f"there-{architecture}", **given, executor=Sending())
        assert files(tmp_path / f"there-{architecture}") == files(tmp_path / f"here-{architecture}")


def test_text_is_read_in_smaller_batches_where_the_device_has_no_room(tmp_path, monkeypatch) -> None:
    from onesense.features import context_pass

    real = context_pass.read_windows

    def narrow(model, points, windows):
        if len(windows) * max(len(window.ids) for window in windows) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(model, points, windows)

    whole = collected(tmp_path / "whole", dictionary=wide_dictionary())
    monkeypatch.setattr(context_pass, "read_windows", narrow)
    with pytest.warns(SmallerBatchWarning, match="Reading text"):
        halved = collected(tmp_path / "halved", dictionary=wide_dictionary())
    assert_same(whole, halved)


def test_a_shard_that_could_not_be_read_leaves_nothing_half_held(tmp_path, monkeypatch) -> None:
    from onesense.features import context_pass

    items = []

    class Watching(LocalExecutor):
        def map_shards(self, function, shards):
            items.extend((function, shard) for shard in shards)
            return map(function, [shard for _, shard in items])

    collected(tmp_path / "run", dictionary=wide_dictionary(), settings=IN_PARTS, executor=Watching())
    work, first = items[0]
    other = next(shard for _, shard in items if shard.shard != first.shard)
    expected = work(first)
    real = context_pass.read_windows
    monkeypatch.setattr(context_pass, "read_windows", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work(other)
    monkeypatch.setattr(context_pass, "read_windows", real)
    again = work(first)
    assert expected["count"].sum() > 0
    assert again["count"].tolist() == expected["count"].tolist()
