"""Where an edit acts: which positions of a text, and on which tokens."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field
from torch import Tensor

from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.model.positions import Positions
from onesense.steer.checked import Checked

Count = Annotated[int, Field(strict=True, ge=1)]
Token = Annotated[int, Field(strict=True, ge=0)] | str


class Window(StrEnum):
    """A stretch of the text."""

    ALL = "all"
    PROMPT = "prompt"
    GENERATION = "generation"


class Where(Checked):
    """The positions that an edit changes. Padding is never among them.

    Positions are absolute: 0 is the first token of the row, the BOS where there is one. With ``first``,
    ``last`` and ``positions`` all left out, every position of the window counts; otherwise those that one of
    the three names.

    Attributes:
        window: ``all``; ``prompt``, the tokens of the prompt; or ``generation``, the positions from which a
            token is generated: the prompt's last token (it yields the first generated one) and all after it.
        first: The first n positions of the window.
        last: The last n positions of the prompt; not for ``generation``, whose end nobody knows.
        positions: Ranges ``(start, stop)``, stop left out; negative counts from the prompt's end, and None as
            stop means no end.
        include: Only on these tokens: ids, or strings that are one token each.
        exclude: Not on these tokens, even where they are included.
        special: Whether special tokens (BOS, EOS, ...) are edited too.
    """

    window: Window = Window.ALL
    first: Count | None = None
    last: Count | None = None
    positions: tuple[tuple[int, int | None], ...] = ()
    include: tuple[Token, ...] = ()
    exclude: tuple[Token, ...] = ()
    special: bool = False

    def check(self) -> None:
        """See ``Checked``."""
        if self.last is not None and self.window is Window.GENERATION:
            raise ValueError("`last` counts back from the prompt's end, before window `generation`")
        for start, stop in self.positions:
            if stop is not None and (start < 0) == (stop < 0) and start >= stop:
                raise ValueError(f"the range ({start}, {stop}) is empty: it stops before it starts")

    @property
    def needs_prompt_end(self) -> bool:
        """Whether it matters where the prompt ends."""
        negative = any(start < 0 or (stop or 0) < 0 for start, stop in self.positions)
        return self.window is not Window.ALL or self.last is not None or negative


EVERYWHERE = Where(special=True)
"""Every position, the BOS too: where the original project steers."""


class Selector:
    """A ``Where`` with its tokens looked up in a model.

    Raises:
        ConfigurationError: A string is not one token of the model, or an id is outside its vocabulary.
    """

    def __init__(self, where: Where, model: LanguageModel) -> None:
        self.where = where
        self._include = token_ids(model, where.include)
        self._exclude = token_ids(model, where.exclude)
        self._special = () if where.special else tuple(model.special_ids)

    def __call__(self, positions: Positions) -> Tensor:
        """The positions to edit, bool [batch, seq].

        Raises:
            ConfigurationError: The prompt's end matters and is not known.
        """
        where = self.where
        if where.needs_prompt_end and not positions.prompt_known:
            raise ConfigurationError(
                "Without a cache nobody can see where the prompt ends and the generated text begins.",
                hint="Say where (prompt_lengths=...), or generate with use_cache=True.",
            )
        chosen = positions.real
        stretch = self._stretch(positions)
        if stretch is not None:
            chosen = chosen & stretch
        if self._special:
            chosen = chosen & ~positions.is_any_of(self._special, "special tokens")
        if where.include:
            chosen = chosen & positions.is_any_of(self._include, "the included tokens")
        if where.exclude:
            chosen = chosen & ~positions.is_any_of(self._exclude, "the excluded tokens")
        return chosen

    def _stretch(self, positions: Positions) -> Tensor | None:
        where, index = self.where, positions.index
        end = positions.prompt_length[:, None]
        named: list[Tensor] = []
        if where.first is not None:
            begin = end - 1 if where.window is Window.GENERATION else end * 0
            named.append((index >= begin) & (index < begin + where.first))
        if where.last is not None:
            named.append((index >= end - where.last) & (index < end))
        for start, stop in where.positions:
            chosen = index >= (start if start >= 0 else end + start)
            if stop is not None:
                chosen = chosen & (index < (stop if stop >= 0 else end + stop))
            named.append(chosen)
        stretch: Tensor | None = None
        for one in named:
            stretch = one if stretch is None else stretch | one
        if where.window is Window.ALL:
            return stretch
        window = index < end if where.window is Window.PROMPT else index >= end - 1
        return window if stretch is None else window & stretch


def token_ids(model: LanguageModel, tokens: tuple[int | str, ...]) -> tuple[int, ...]:
    """Ids of tokens given by id, by the tokenizer's own spelling (``Ġthe``) or by their text (`` the``).

    Raises:
        ConfigurationError: A string is not one token, or an id is outside the vocabulary.
    """
    return tuple(_token_id(model, token) for token in tokens)


def _token_id(model: LanguageModel, token: int | str) -> int:
    if isinstance(token, int):
        if not 0 <= token < model.vocab_size:
            raise ConfigurationError(
                f"Token {token} is outside the vocabulary of `{model.name}`.",
                hint=f"Token ids run from 0 to {model.vocab_size - 1}.",
            )
        return token
    tokenizer = model.require_tokenizer()
    spelled = tokenizer.get_vocab().get(token)
    if spelled is not None:
        return int(spelled)
    pieces: list[int] = tokenizer.encode(token, add_special_tokens=False)
    if len(pieces) != 1:
        parts = ", ".join(repr(part) for part in model.token_strings(pieces))
        raise ConfigurationError(
            f"{token!r} is not one token of `{model.name}`: it is {parts or 'nothing'}.",
            hint="Name its tokens one by one; a space in front makes another token.",
        )
    return pieces[0]
