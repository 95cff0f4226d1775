"""What is shown while a command works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from onesense.cli import console


@pytest.mark.parametrize("width", [60, 80, 140])
def test_progress_takes_one_line_and_shows_what_was_spent(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(console, "messages", Console(file=written, width=width, soft_wrap=True))
    spent = "53,626 tokens in, 1,776 out"
    with console.Bars(live=lambda: spent).stage("Explaining", "features") as progress:
        progress(200, 200)
    lines = [line for line in written.getvalue().splitlines() if line.strip()]
    assert len(lines) == 1
    assert "Explaining" in lines[0]
    assert "200 features" in lines[0]
    assert spent in lines[0]
    assert len(lines[0]) <= width


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(console, "messages", Console(file=written, width=80))
    with console.Bars(quiet=True).stage("Explaining", "features") as progress:
        progress(200, 200)
    assert written.getvalue() == ""
