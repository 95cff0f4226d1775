"""Whatever a file holds, its reader returns or raises an OnesenseError: the targets of ``benchmarks.fuzz``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz_targets import NAMES, Target, make_target
from onesense.errors import OnesenseError


@pytest.fixture(scope="module", params=[name for name in NAMES if name != "benchmark_files"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Target]:
    return request.param, make_target(request.param, tmp_path_factory.mktemp(request.param))


def survives(read: Target, data: bytes) -> bool:
    """Whether the reader answered as it may; the answer is whether it took the file."""
    try:
        read(data)
    except OnesenseError:
        return False
    return True


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=64))
def test_changed_files_are_read_or_refused(target: tuple[str, Target], data: bytes) -> None:
    survives(target[1], data)


def test_some_are_refused(target: tuple[str, Target]) -> None:
    name, read = target
    taken = [survives(read, bytes([number, 3, 7, 1, number, 9] * 6)) for number in range(0, 250, 10)]
    assert name == "answers" or not all(taken)


@pytest.mark.skipif(not os.environ.get("ONESENSE_DATA"), reason="needs the published data sets")
def test_changed_benchmark_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onesense.bias.benchmarks import stereoset
    from onesense.bias.data import folder

    monkeypatch.setattr(folder, "_is_published", folder._is_published)  # put back what the target replaces
    read = make_target("benchmark_files", tmp_path)
    taken = [survives(read, bytes([number, number * 7 % 256, 3, 1, number, 9] * 8)) for number in range(25)]
    stereoset._read.cache_clear()
    assert not all(taken)
