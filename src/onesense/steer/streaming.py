"""Generated text as it comes: tokens of a batch turned into text row by row, whole characters only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from onesense.model.language_model import LanguageModel

_BROKEN = "\N{REPLACEMENT CHARACTER}"


class TextPieces:
    """Turns one row's tokens into text, piece by piece.

    A piece is given when its characters are whole: tokens of byte-level tokenizers may hold parts of one.

    Args:
        model: Whose tokenizer to use.
        context: Tokens before the first, so that its leading space is told right.
    """

    def __init__(self, model: LanguageModel, context: Sequence[int] = ()) -> None:
        self._model = model
        self._ids = list(context)
        self._start = 0
        self._told = len(self._ids)

    def add(self, token: int) -> str:
        """The text that is certain now and was not told yet; often a token's, sometimes none."""
        self._ids.append(token)
        return self._tell(final=False)

    def finish(self) -> str:
        """What is left, broken characters included."""
        return self._tell(final=True)

    def _tell(self, *, final: bool) -> str:
        before = self._model.decode(self._ids[self._start : self._told])
        now = self._model.decode(self._ids[self._start :])
        if len(now) <= len(before) or (now.endswith(_BROKEN) and not final):
            return ""
        self._start, self._told = self._told, len(self._ids)
        return now[len(before) :]


class BatchStreamer(BaseStreamer):
    """Passes on the text of every row of a batch as ``generate`` makes it.

    Args:
        model: Whose tokenizer to use.
        contexts: Each row's prompt tokens.
        stop_ids: Tokens that end a row; nothing is told of what comes after.
        on_text: Called with the row, its new text, and whether the row has ended (its text may be empty then).
    """

    def __init__(
        self,
        model: LanguageModel,
        contexts: Sequence[Sequence[int]],
        stop_ids: Sequence[int],
        on_text: Callable[[int, str, bool], None],
    ) -> None:
        # A few tokens of context tell a leading space; a long prompt need not be decoded again and again.
        self._rows = [TextPieces(model, context[-4:]) for context in contexts]
        self._open = [True] * len(self._rows)
        self._stop_ids = frozenset(stop_ids)
        self._on_text = on_text
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        """Take the prompt, [rows, seq], at first, and the next token of each row, [rows], from then on."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for row, token in enumerate(value.reshape(-1).tolist()):
            if not self._open[row]:
                continue
            if token in self._stop_ids:
                self._close(row)
                continue
            if text := self._rows[row].add(token):
                self._on_text(row, text, False)

    def end(self) -> None:
        """Tell what is left of every row."""
        for row, is_open in enumerate(self._open):
            if is_open:
                self._close(row)

    def _close(self, row: int) -> None:
        self._open[row] = False
        self._on_text(row, self._rows[row].finish(), True)
