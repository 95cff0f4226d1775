"""Steered samples on the screen as they come."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from onesense.cli.console import RULE, results, visible

if TYPE_CHECKING:
    from onesense.steer.generate import Piece


class SteeredSamples:
    """Shows the steered samples one under the other, while a batch generates all of them at once.

    One sample is live; what comes for later ones waits until those before it have ended.

    Args:
        prompt: What each sample goes on from.
    """

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt
        self._waiting: defaultdict[int, str] = defaultdict(str)
        self._ended: set[int] = set()
        self._live = 0
        self._begun = False

    def __call__(self, piece: Piece) -> None:
        """Take a new piece of any sample."""
        if not piece.steered:
            return
        self._waiting[piece.sample] += piece.text
        if piece.ended:
            self._ended.add(piece.sample)
        while self._show() and self._live in self._ended:
            results.print("")
            self._live, self._begun = self._live + 1, False

    def _show(self) -> bool:
        """Print what is there of the live sample; whether there was anything to say of it."""
        if not self._waiting[self._live] and self._live not in self._ended:
            return False
        if not self._begun:
            results.print("Generation with steering:" if self._live == 0 else f"\n{RULE}\n", markup=False)
            results.print(visible(self._prompt), end="", markup=False)
            self._begun = True
        results.print(visible(self._waiting.pop(self._live, "")), end="", markup=False)
        results.file.flush()
        return True
