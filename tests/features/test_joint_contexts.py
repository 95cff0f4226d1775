"""Contexts of a few features at several hook points are those that each dictionary has by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.tiny_contexts import SETTINGS, new_run, tiny_dictionary, word_documents, word_model
from onesense.errors import ConfigurationError, NotFoundError
from onesense.features import joint_contexts
from onesense.features.contexts import Contexts, ContextSettings, collect_contexts
from onesense.features.joint_contexts import collect_joint_contexts
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary

POINTS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
FEATURES = ([7, 2, 11], [0, 5])


def _topk(point: str) -> Dictionary:
    return replace(tiny_dictionary(point), architecture=Architecture.TOPK, k=3)


def _joint(path: Path, made: Callable[[str], Dictionary], settings: ContextSettings = SETTINGS) -> Contexts:
    wanted = [(made(point), features) for point, features in zip(POINTS, FEATURES, strict=True)]
    run = new_run(path)
    with run.lock():
        return collect_joint_contexts(word_model(), wanted, word_documents(), run, settings=settings)


@pytest.mark.parametrize("made", [tiny_dictionary, _topk])
@pytest.mark.parametrize("outlier_factor", [1e9, 1.2])
def test_they_are_those_of_the_pass_over_all_features(
    tmp_path: Path, made: Callable[[str], Dictionary], outlier_factor: float
) -> None:
    settings = replace(SETTINGS, outlier_factor=outlier_factor)
    joint = _joint(tmp_path / "joint", made, settings)
    assert joint.n_features == 5
    row, firings = 0, 0
    for point, features in zip(POINTS, FEATURES, strict=True):
        run = new_run(tmp_path / point)
        with run.lock():
            alone = collect_contexts(word_model(), made(point), word_documents(), run, settings=settings)
        for feature in features:
            mine, theirs = joint.top(row), alone.top(feature)
            assert joint.count[row] == alone.count[feature]
            assert [(one.document, one.position, one.peak) for one in mine] == [
                (one.document, one.position, one.peak) for one in theirs
            ]
            for one, other in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(one.token_ids, other.token_ids)
                np.testing.assert_allclose(one.activations, other.activations, rtol=2e-3, atol=1e-5)
            firings += int(joint.count[row])
            row += 1
    assert firings > 20


def test_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _joint(tmp_path / "run", tiny_dictionary)

    def never(*_arguments: object) -> None:
        raise AssertionError("the model ran again")

    monkeypatch.setattr(joint_contexts, "capture", never)
    again = _joint(tmp_path / "run", tiny_dictionary)
    np.testing.assert_array_equal(again.count, first.count)
    assert [one.position for one in again.top(1)] == [one.position for one in first.top(1)]


def test_progress_counts_every_token(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    run = new_run(tmp_path / "run")
    with run.lock():
        contexts = collect_joint_contexts(
            word_model(),
            [(tiny_dictionary(), [1])],
            word_documents(),
            run,
            settings=replace(SETTINGS, max_tokens=50),
            progress=lambda done, total: told.append((done, total)),
        )
    assert told[-1] == (50, 50)
    assert contexts.tokens_seen == 50


def test_bad_input_is_told(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    with run.lock():
        with pytest.raises(ConfigurationError, match="no token"):
            collect_joint_contexts(word_model(), [(tiny_dictionary(), [1])], [], run, settings=SETTINGS)
        with pytest.raises(NotFoundError, match="no feature 12"):
            collect_joint_contexts(
                word_model(), [(tiny_dictionary(), [12])], word_documents(), run, settings=SETTINGS
            )
    assert not run.has_result("stats")
