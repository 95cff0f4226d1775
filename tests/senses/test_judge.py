"""Who tells the contexts of two senses from those of one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.metrics import roc_auc_score

from onesense.errors import ConfigurationError
from onesense.senses.judge import Judge, fit_judge, pairs_of, statistics_of, union_direction
from onesense.senses.sampling import Sample
from onesense.senses.set_statistics import NEIGHBOUR_STATISTICS, STATISTICS
from onesense.senses.space import VIEWS, ContextVectors, SenseSpace
from senses.conftest import LEARNED
from senses.planted_contexts import FEATURES, Planted, pairs_among, union


@pytest.mark.parametrize("size", [16, 32])
def test_unions_of_features_it_never_saw_are_told_from_single_ones(
    judge: Judge, vectors: list[ContextVectors], size: int
) -> None:
    generator = np.random.default_rng(7)
    sets, labels = [], []
    for _ in range(80):
        pair = pairs_among(vectors[LEARNED:])(size, generator.uniform(0.2, 0.5), generator)
        sets += [one.cosines() for one in pair]
        labels += [1, 0]
    found = judge.several(sets)
    assert roc_auc_score(labels, found) > 0.95
    assert 0 <= found.min() <= found.max() <= 1


def test_features_that_differ_in_nothing_are_not_told_apart() -> None:
    generator = np.random.default_rng(5)
    same = [
        ContextVectors(
            generator.standard_normal((48, 10)).astype(np.float32),
            csr_array((generator.random((48, 20)) < 0.2).astype(np.float32)),
        )
        for _ in range(24)
    ]
    blind = fit_judge(pairs_among(same), sizes=(16,), seed=0, pairs=60)
    pairs = [pairs_among(same)(16, 0.5, generator) for _ in range(60)]
    found = blind.several([one.cosines() for pair in pairs for one in pair])
    assert 0.3 < roc_auc_score([1, 0] * 60, found) < 0.7


def test_too_few_contexts_have_no_number(judge: Judge, vectors: list[ContextVectors]) -> None:
    sets = [vectors[80].take(slice(0, number)).cosines() for number in (0, 1, 7, 8, 15, 40)]
    found = judge.several(sets)
    assert np.isnan(found[:3]).all()
    assert np.isfinite(found[3:]).all()
    assert judge.several([]).shape == (0,)


def test_the_largest_size_that_is_filled_counts(judge: Judge, vectors: list[ContextVectors]) -> None:
    assert judge.sizes == (32, 16, 8)
    assert [judge.size_for(number) for number in (7, 8, 15, 16, 31, 32, 500)] == [None, 8, 8, 16, 16, 32, 32]
    cosines = union(vectors, {80: 24, 81: 24}).cosines()
    assert judge.several([cosines])[0] == judge.several([cosines[:, :32, :32]])[0]


def test_sets_of_all_sizes_together_are_judged_as_alone(judge: Judge, vectors: list[ContextVectors]) -> None:
    sets = [vectors[80].take(slice(0, number)).cosines() for number in (9, 33, 17, 3, 40)]
    alone = np.concatenate([judge.several([one]) for one in sets])
    np.testing.assert_allclose(judge.several(sets), alone, atol=1e-9)


def test_the_same_seed_gives_the_same_judge(vectors: list[ContextVectors]) -> None:
    sets = [union(vectors, {80: 8, 81: 8}).cosines(), vectors[82].take(slice(0, 16)).cosines()]
    one, again, other = (
        fit_judge(pairs_among(vectors[:30]), sizes=(16,), seed=seed, pairs=60) for seed in (3, 3, 4)
    )
    assert_array_equal(one.several(sets), again.several(sets))
    assert not np.array_equal(one.several(sets), other.several(sets))


def test_statistics_of_all_views_stand_beside_one_another(vectors: list[ContextVectors]) -> None:
    sets = [vectors[at].take(slice(0, 8)).cosines() for at in range(3)]
    found = statistics_of(sets)
    own = len(STATISTICS) + len(NEIGHBOUR_STATISTICS)
    assert len(found) == 3
    assert found.shape[1] > len(VIEWS) * own
    assert np.isfinite(found).all()
    assert_allclose(found[:1], statistics_of(sets[:1]), rtol=1e-6, atol=1e-8)


def test_a_union_has_both_features_in_its_shares(world: Planted, space: SenseSpace) -> None:
    samples = [world.sample(at) for at in range(FEATURES)]
    directions = world.directions[:FEATURES]
    of = {int(position): at for at, one in enumerate(samples) for position in one.position}
    seen: list[tuple[Sample, np.ndarray]] = []

    class Spy:
        def vectors(
            self, sample: Sample, direction: np.ndarray, *, makers: np.ndarray | None = None
        ) -> ContextVectors:
            seen.append((sample, direction))
            return space.vectors(sample, direction, makers=makers)

    union_of_two, single = pairs_of(Spy(), samples, directions)(16, 0.25, np.random.default_rng(0))  # type: ignore[arg-type]
    assert len(union_of_two) == len(single) == 16
    (both, mixed), (alone, own) = seen
    makers, sizes = np.unique([of[int(position)] for position in both.position], return_counts=True)
    first = of[int(alone.position[0])]
    assert {of[int(position)] for position in alone.position} == {first}
    assert dict(zip(makers.tolist(), sizes.tolist(), strict=True))[first] == 4
    second = next(int(one) for one in makers if one != first)
    np.testing.assert_array_equal(own, directions[first])
    np.testing.assert_allclose(mixed, union_direction(directions[first], directions[second], 0.25))
    assert np.linalg.norm(mixed) == pytest.approx(1, abs=1e-5)


def test_too_few_features_are_refused(world: Planted, space: SenseSpace) -> None:
    with pytest.raises(ConfigurationError, match="19 features"):
        pairs_of(space, [world.sample(at) for at in range(19)], world.directions[:19])
