"""Evidence: halves that share no document, bands in turn, nothing twice."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from explain.planted import FEATURES, SILENT
from onesense.errors import NotFoundError
from onesense.explain.evidence import apart_from, divided, in_turn, is_train, split_note
from onesense.features.context_store import Context


def context(
    document: int, position: int, activation: float = 1.0, length: int = 4, token: int = 7
) -> Context:
    values = np.zeros(length, np.float32)
    values[1] = activation
    return Context(document, position, np.arange(token, token + length), values, 1)


def test_about_half_of_the_documents_are_for_explaining() -> None:
    halves = [[is_train(document, seed) for document in range(4000)] for seed in (0, 1)]
    assert all(0.46 < np.mean(half) < 0.54 for half in halves)
    assert halves[0] != halves[1]
    assert halves[0] == [is_train(document, 0) for document in range(4000)]


def test_halves_share_no_document_and_nothing_overlaps(planted) -> None:
    with planted.reader(seed=3) as reader:
        for feature in range(FEATURES):
            evidence = reader.evidence(feature)
            assert len(evidence.train) == 10
            assert len(evidence.test) > 8
            assert not evidence.note
            assert all(is_train(one.document, 3) for one in evidence.train)
            assert not any(is_train(one.document, 3) for one in evidence.test)
            for side in (evidence.train, evidence.test):
                assert not any(a.overlaps(b) for a, b in combinations(side, 2))
            for one in evidence.train + evidence.test:
                assert one.token_ids[one.peak] == 3 + feature
                assert one.pieces[one.peak].strip() == f"w{feature}"


def test_a_feature_that_never_fires_says_so(planted) -> None:
    with planted.reader() as reader:
        evidence = reader.evidence(SILENT)
        assert evidence.train == evidence.test == ()
        assert "never fires" in evidence.note
        assert evidence.promoted
        with pytest.raises(NotFoundError):
            reader.evidence(999)


def test_overlapping_contexts_count_once() -> None:
    found = [context(0, 10), context(0, 12), context(0, 14), context(1, 10)]
    train, test = divided(found, seed=0)
    assert sorted((one.document, one.position) for one in train + test) == [(0, 10), (0, 14), (1, 10)]


def test_octaves_come_in_turn() -> None:
    strengths = [9.0, 8.5, 15.0, 4.5, 4.1, 2.2, 0.3]
    found = [context(n, 10, value) for n, value in enumerate(strengths)]
    chosen = in_turn(found, 5, np.random.default_rng(1), strongest_first=True)
    first = [one.activation for one in chosen]
    assert first[0] == 15
    assert 4 <= first[1] < 8
    assert first[2:4] == [pytest.approx(2.2), pytest.approx(0.3)]
    assert 8 <= first[4] < 15
    assert in_turn([], 5, np.random.default_rng(1)) == []


def test_text_that_is_twice_in_the_corpus_is_not_in_both_halves() -> None:
    train = [context(0, 10, token=7)]
    assert apart_from([context(1, 3, token=7), context(2, 3, token=8)], train)[0].document == 2


def test_notes() -> None:
    assert "one document" in split_note(True, False, 1)
    assert "for explaining" in split_note(False, True, 2)
