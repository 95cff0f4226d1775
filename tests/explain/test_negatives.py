"""Negatives: of test documents, without the feature, and hard where they say so."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from explain.planted import FEATURES, POOL, SILENT, Planted
from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError
from onesense.explain.evidence import is_train
from onesense.explain.negative_pool import Pool, PoolSettings, choose_windows, partners, read_pool
from onesense.explain.negative_stretches import NearestStretches
from onesense.explain.negatives import NEGATIVE_KINDS, Negatives
from onesense.explain.passages import TokenPieces


@pytest.fixture(scope="module")
def negatives(planted: Planted) -> Negatives:
    return planted.negatives()


def test_pool_says_where_features_fire(planted, negatives) -> None:
    pool = negatives.pool
    assert len(pool) > 150
    assert not any(is_train(document, 0) for document in pool.document.tolist())
    for feature in range(FEATURES + 1):
        own = pool.firings(feature)
        holds = np.flatnonzero((pool.tokens == 3 + feature).any(axis=1))
        expected = [] if feature == SILENT else holds.tolist()
        assert pool.stretch[own].tolist() == expected
        if expected:
            np.testing.assert_allclose(pool.activation[own], 0.5)
            at = pool.tokens[pool.stretch[own], pool.position[own]]
            assert (at == 3 + feature).all()


def test_pool_is_the_text_of_its_documents(planted, negatives) -> None:
    pool = negatives.pool
    texts = {one.index: one.text.split() for one in planted.documents()}
    for document, start, row in zip(pool.document, pool.start, pool.tokens, strict=True):
        words = [f"w{token - 3}" for token in row[row >= 0]]
        assert texts[int(document)][int(start) : int(start) + len(words)] == words


def test_nearest_equals_a_search_over_every_stretch(planted) -> None:
    settings = replace(POOL, nearest=5)
    windows = choose_windows(planted.model, planted.documents(), settings)
    # Directions that no two words share, so that cosines differ.
    rows = torch.randn(FEATURES + 1, 48, generator=torch.Generator().manual_seed(0))
    dictionary = replace(planted.dictionary, W_dec=rows)
    pool = read_pool(planted.model, dictionary, windows, settings)
    vectors = torch.eye(len(planted.model.tokenizer), 48)
    first = torch.cat([vectors[window.ids] for window in windows[:16]]).mean(0)
    unit = torch.nn.functional.normalize
    cosine = (unit(vectors - first, dim=1) @ unit(rows, dim=1).T).numpy()
    for feature in range(FEATURES + 1):
        of_stretch = np.where(pool.tokens >= 0, cosine[pool.tokens, feature], -9).max(axis=1)
        of_stretch[pool.stretch[pool.firings(feature)]] = -9
        best = np.sort(of_stretch)[::-1][:5]
        np.testing.assert_allclose(pool.similarity[feature], best, atol=1e-5)
        np.testing.assert_allclose(of_stretch[pool.nearest[feature]], best, atol=1e-5)
        at = pool.tokens[pool.nearest[feature], pool.nearest_position[feature]]
        np.testing.assert_allclose(cosine[at, feature], best, atol=1e-5)


@given(
    cosines=arrays(
        np.float32, st.tuples(st.integers(0, 12), st.just(3)), elements=st.sampled_from([0, 0.5, 1])
    ),
    cuts=st.lists(st.integers(0, 12), max_size=3),
    kept=st.integers(1, 5),
)
def test_the_nearest_stretches_do_not_depend_on_how_they_are_cut(cosines, cuts, kept) -> None:
    """Few different cosines, so that most are equal: of those the first stretches count."""
    edges = sorted({0, len(cosines), *(min(cut, len(cosines)) for cut in cuts)})
    whole = NearestStretches.none(3, kept)
    for start, stop in pairwise(edges):
        values = torch.from_numpy(cosines[start:stop])
        own = NearestStretches.none(3, kept).with_stretches(values, (values * 10).to(torch.int32), first=0)
        whole = whole.merged(own, first=start)
    for column in range(3):
        order = np.argsort(-cosines[:, column], kind="stable")[:kept]
        missing = [-1] * (kept - len(order))
        assert whole.stretch[:, column].tolist() == [*order.tolist(), *missing]
        assert (
            whole.position[: len(order), column].tolist()
            == (cosines[order, column] * 10).astype(int).tolist()
        )


def small_pool(fires: list[list[int]], stretches: int = 8) -> Pool:
    """Features by the stretches that they fire in."""
    lengths = [len(one) for one in fires]
    entries = np.array([stretch for one in fires for stretch in one], np.int32)
    nothing = np.full((len(fires), 2), -1, np.int32)
    return Pool(
        document=np.arange(stretches, dtype=np.int32),
        start=np.zeros(stretches, np.int64),
        tokens=np.arange(stretches * 4, dtype=np.int32).reshape(stretches, 4) % 40,
        pointer=np.cumsum([0, *lengths]),
        stretch=entries,
        activation=np.ones(len(entries), np.float32),
        position=np.zeros(len(entries), np.int32),
        nearest=nothing,
        nearest_position=nothing,
        similarity=np.full((len(fires), 2), -2, np.float32),
    )


def test_partners_fire_together_or_write_alike() -> None:
    pool = small_pool([[0, 1, 2], [0, 1, 3], [4, 5], [], [0, 1, 2, 3, 4, 5, 6, 7]])
    directions = torch.tensor([[1.0, 0], [0.5, 1], [0, 1], [0.1, 1], [-1, 0]])
    found = partners(pool, directions, 2)
    assert found[0].tolist() == [1, -1]
    assert found[2].tolist() == [-1, -1]
    assert found[3].tolist() == [2, 1]
    assert found[4].tolist() == [-1, -1]  # what fires everywhere fires with nothing in particular


def test_co_firing_negatives_hold_a_partner_and_not_the_feature(planted) -> None:
    pool = small_pool([[0, 1, 2], [0, 1, 3, 5]])
    source = Negatives(pool, np.array([[1], [0]], np.int32), TokenPieces(planted.model))
    (first,) = source.draw(0, 1, seed=0)
    assert (first.kind, first.passage.document) == ("co_firing", 3)
    drawn = source.draw(0, 9, seed=0)
    assert {one.passage.document for one in drawn if one.kind == "co_firing"} <= {3, 5}
    assert {one.passage.document for one in drawn} == {3, 4, 5, 6, 7}


def test_a_third_of_each_kind_none_with_the_feature(planted, negatives) -> None:
    with planted.reader() as reader:
        for feature in range(FEATURES):
            avoid = reader.evidence(feature).test
            drawn = negatives.draw(feature, 9, seed=1, avoid=avoid)
            assert [one.kind for one in drawn] == list(NEGATIVE_KINDS) * 3
            assert len({(one.passage.document, one.passage.start) for one in drawn}) == 9
            for one in drawn:
                assert 3 + feature not in one.passage.token_ids
                assert not any(one.passage.overlaps(other) for other in avoid)
                assert 0 <= one.passage.peak < len(one.passage.token_ids)
    assert negatives.draw(0, 9, seed=1) == negatives.draw(0, 9, seed=1)
    assert negatives.draw(0, 9, seed=1) != negatives.draw(0, 9, seed=2)


def test_a_feature_that_fires_everywhere_has_none(planted) -> None:
    pool = small_pool([list(range(8))])
    drawn = Negatives(pool, np.full((1, 1), -1, np.int32), TokenPieces(planted.model)).draw(0, 4, seed=0)
    assert drawn == []


def test_kept_and_refused(planted, negatives) -> None:
    path = planted.run.result_path("negatives")
    before = path.read_bytes()
    planted.negatives()
    assert path.read_bytes() == before
    with pytest.raises(IncompatibleError, match="another model"):
        planted.negatives(replace(POOL, seed=1))
    with pytest.raises(NotFoundError):
        negatives.draw(99, 4, seed=0)


def test_text_of_one_half_only_is_refused(planted) -> None:
    documents = [one for one in planted.documents() if is_train(one.index, 0)]
    with pytest.raises(ConfigurationError, match="No document is left for scoring"):
        choose_windows(planted.model, documents, POOL)
    with pytest.raises(ConfigurationError, match="windows"):
        PoolSettings(windows=0)
