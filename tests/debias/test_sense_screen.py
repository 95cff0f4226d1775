"""Features with several senses are left out; those that nobody measured are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onesense.debias.sense_screen import read_screen
from onesense.errors import IncompatibleError, NotFoundError
from onesense.sae.dictionary import Dictionary, Origin
from onesense.senses.sense_table import SenseTable
from onesense.store.run_folder import RunFolder
from small_recipes import dictionary_at


def _named(point: str, fingerprint: str) -> Dictionary:
    origin = Origin(fingerprint=fingerprint)
    return replace(dictionary_at(point), origin=origin)


def _run(path: Path, fingerprint: str, number: np.ndarray) -> str:
    run = RunFolder.create_or_resume(
        path,
        command="senses measure",
        configuration={"dictionary": "somewhere"},
        provenance={"inputs": {"dictionary": {"fingerprint": fingerprint}}, "seeds": {"root": 0}},
    )
    units = len(number)
    unknown = np.full(units, np.nan, np.float32)
    contexts = np.zeros((units, 4), np.float32)
    table = SenseTable(
        number.astype(np.int32),
        unknown,
        unknown,
        unknown,
        unknown,
        unknown,
        np.zeros(units, np.int32),
        contexts.astype(np.int32),
        contexts,
        contexts.astype(np.int8),
    )
    run.write_result("senses/features", table.to_tensors())
    return str(path)


def test_the_runs_may_come_in_any_order_and_one_may_be_missing(tmp_path: Path) -> None:
    dictionaries = [_named(f"blocks.{layer}.hook_resid_post", f"of {layer}") for layer in range(3)]
    generator = np.random.default_rng(0)
    numbers = [generator.integers(0, 4, 48) for _ in range(2)]
    runs = [_run(tmp_path / "2", "of 2", numbers[1]), _run(tmp_path / "0", "of 0", numbers[0])]
    screen = read_screen(runs, dictionaries)
    np.testing.assert_array_equal(screen.number[:48], numbers[0])
    np.testing.assert_array_equal(screen.number[48:96], 0)
    np.testing.assert_array_equal(screen.number[96:], numbers[1])
    np.testing.assert_array_equal(screen.polysemantic, screen.number > 1)
    assert screen.senses(50) is None
    assert screen.senses(96 + int(np.argmax(numbers[1]))) == 3
    assert len(screen.fingerprints) == 2


def test_without_a_run_nothing_is_screened() -> None:
    screen = read_screen((), [_named("blocks.0.hook_resid_post", "any")])
    assert not screen.polysemantic.any()
    assert screen.fingerprints == ()


def test_senses_of_another_dictionary_are_refused(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", "of another", np.ones(48))
    with pytest.raises(IncompatibleError, match="none of the dictionaries"):
        read_screen([run], [_named("blocks.0.hook_resid_post", "mine")])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not a run folder"):
        read_screen([str(tmp_path)], [_named("blocks.0.hook_resid_post", "mine")])
