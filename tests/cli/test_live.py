"""Steered samples are shown as they come, one under the other."""

from __future__ import annotations

import pytest

from onesense.cli.live import SteeredSamples
from onesense.steer.generate import Piece


def test_a_later_sample_is_live_as_soon_as_those_before_it_have_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = SteeredSamples("Why?")
    show(Piece(True, 1, " Be"))
    show(Piece(False, 0, " unsteered"))
    assert capsys.readouterr().out == ""
    show(Piece(True, 0, "", ended=True))
    first = capsys.readouterr().out
    assert first.startswith("Generation with steering:\nWhy?\n")
    assert first.endswith("Why? Be")
    show(Piece(True, 1, "cause", ended=True))
    show(Piece(True, 2, "[bold]\x1b[2J", ended=True))
    rest = capsys.readouterr().out
    assert rest.startswith("cause\n")
    assert "unsteered" not in rest
    assert rest.count("-" * 80) == 1
    assert "Why?[bold]\N{REPLACEMENT CHARACTER}[2J" in rest
