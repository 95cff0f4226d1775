from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_array

from onesense.errors import ConfigurationError
from onesense.senses.judge import Judge, fit_judge, union_and_single
from onesense.senses.space import ContextVectors, joined


def feature(seed: int, contexts: int = 16) -> ContextVectors:
    """Contexts round a place of their own, with a feature or two that fire there."""
    generator = np.random.default_rng(seed)
    place = generator.standard_normal(20)
    firing = np.zeros((contexts, 40), np.float32)
    firing[:, generator.choice(40, 2, replace=False)] = generator.random((contexts, 2)) < 0.6
    stream = place + 0.6 * generator.standard_normal((contexts, 20))
    return ContextVectors(stream.astype(np.float32), csr_array(firing))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return fit_judge([feature(seed) for seed in range(60)], sizes=(8, 16), seed=0, pairs=150)


def test_unions_of_features_never_seen_are_told_from_single_ones(judge: Judge) -> None:
    new = [feature(seed) for seed in range(100, 140)]
    single = judge.several([one.cosines() for one in new])
    order = np.random.default_rng(0).permutation(16)
    unions = judge.several(
        [joined([one.take(order[:8]), other.take(order[:8])]).cosines() for one, other in pairwise(new)]
    )
    assert np.mean(single > 0.5) < 0.1
    assert np.mean(unions > 0.5) > 0.9


def test_the_size_is_the_largest_that_fits(judge: Judge) -> None:
    assert [judge.size_for(number) for number in (5, 8, 15, 16, 99)] == [None, 8, 8, 16, 16]
    found = judge.several([feature(0, 5).cosines(), feature(0, 12).cosines(), feature(0, 30).cosines()])
    assert np.isnan(found[0])
    assert ((found[1:] >= 0) & (found[1:] <= 1)).all()


def test_a_union_has_the_share_that_was_asked_for() -> None:
    features = [ContextVectors(np.full((16, 2), at, np.float32), csr_array((16, 3))) for at in range(2)]
    union, single = union_and_single(features, 16, 0.25, np.random.default_rng(0))
    first = single.stream[0, 0]
    assert len(union) == len(single) == 16
    assert (union.stream[:, 0] == first).sum() == 4
    assert (single.stream == first).all()


def test_too_few_features_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes 20"):
        fit_judge([feature(seed) for seed in range(19)], sizes=(16,), seed=0)
