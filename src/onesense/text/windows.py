"""Cut documents into windows of tokens; a window never spans two documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import TokenBatch, encode_texts, pad_batch
from onesense.text.corpus import Document

# A document is tokenised in pieces of about this many characters, so that one of 5 MB costs no more memory.
_PIECE = 100_000


class Window(NamedTuple):
    """A stretch of one document.

    Attributes:
        document: The document's index.
        start: Offset of the first token within the document.
        ids: Token ids, without BOS.
    """

    document: int
    start: int
    ids: list[int]


def iter_windows(
    model: LanguageModel, documents: Iterable[Document], *, context_size: int = 128
) -> Iterator[Window]:
    """Windows of at most ``context_size`` tokens, the BOS that will stand before them counted.

    Empty documents give nothing; the rest at a document's end is a shorter window.

    Raises:
        ConfigurationError: The context size is below 2, or beyond the model's context.
    """
    if not 2 <= context_size <= model.max_context:
        raise ConfigurationError(
            f"A context of {context_size} tokens does not fit `{model.name}`.",
            hint=f"Choose between 2 and {model.max_context}.",
        )
    length = context_size - (0 if model.bos_id is None else 1)
    for document in documents:
        start = 0
        kept: list[int] = []
        for piece in _pieces(document.text):
            kept.extend(encode_texts(model, [piece], prepend_bos=False)[0])
            while len(kept) >= length:
                yield Window(document.index, start, kept[:length])
                start += length
                kept = kept[length:]
        if kept:
            yield Window(document.index, start, kept)


def batch_windows(model: LanguageModel, windows: Iterable[Window]) -> TokenBatch:
    """One padded batch of windows, each with its BOS in front where the model has one."""
    prefix = [] if model.bos_id is None else [model.bos_id]
    return pad_batch(model, [[*prefix, *window.ids] for window in windows])


def _pieces(text: str) -> Iterator[str]:
    """Split a long text at spaces, so that tokens at the seams stay what they are in the whole."""
    start = 0
    while len(text) - start > _PIECE:
        cut = text.rfind(" ", start + 1, start + _PIECE)
        cut = cut if cut > start else start + _PIECE
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]
