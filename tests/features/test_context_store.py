"""Contexts as they are read back."""

from __future__ import annotations

import numpy as np
import pytest

from features.tiny_contexts import (
    collected,
    new_run,
)
from onesense.errors import (
    FormatError,
    NotFoundError,
)
from onesense.features.contexts import Contexts


def test_reader_says_what_there_is_not(tmp_path) -> None:
    contexts = collected(tmp_path / "run")
    for feature in (-1, 12):
        with pytest.raises(NotFoundError, match=f"no feature {feature}"):
            contexts.top(feature)
    for band in (-1, 3):
        with pytest.raises(NotFoundError, match=f"no band {band}"):
            contexts.sample(0, band)
    with pytest.raises(NotFoundError, match="not a run folder"):
        Contexts.open(tmp_path)
    with pytest.raises(NotFoundError, match="stats"):
        Contexts.open(new_run(tmp_path / "new"))


def test_damaged_files_are_noticed(tmp_path) -> None:
    run = tmp_path / "run"
    collected(run)
    for file, read in (
        (run / "contexts" / "block-0000.safetensors", lambda: Contexts.open(run).top(0)),
        (run / "stats.safetensors", lambda: Contexts.open(run)),
    ):
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[-5] ^= 1
        for damaged in (b"", whole[:-9], bytes(flipped)):
            file.write_bytes(damaged)
            with pytest.raises(FormatError):
                read()
        file.write_bytes(whole)
    other = new_run(tmp_path / "other")
    other.write_result("stats", {"count": np.zeros(3)})
    with pytest.raises(FormatError, match="does not hold context statistics"):
        Contexts.open(other)
