"""Text to token ids, and token ids to padded batches: one BOS policy for everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from onesense.errors import ConfigurationError
from onesense.model.language_model import LanguageModel, embedding_rows


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """A padded batch.

    Attributes:
        ids: Token ids, long [batch, seq].
        attention_mask: 1 for a token, 0 for padding, long [batch, seq].
        position_ids: Absolute positions, long [batch, seq].
        content: True where a real token stands that is neither special nor padding, bool [batch, seq].
    """

    ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    content: Tensor

    @property
    def padded(self) -> bool:
        """Whether any position is padding."""
        return not bool(self.attention_mask.all())

    @property
    def left_padded(self) -> bool:
        """Whether padding stands before a token."""
        return not bool(self.attention_mask[:, 0].all())


def describe_bos(model: LanguageModel) -> str:
    """The BOS policy of a model in one line, to be printed and stored."""
    if model.tokenizer is None:
        return "no tokenizer: token ids are taken as they come"
    if model.bos_id is None:
        return "no BOS: the tokenizer has none"
    spelled = model.tokenizer.convert_ids_to_tokens(model.bos_id)
    return f"one BOS (id {model.bos_id}, {spelled}) before every text, never counted"


def encode_text(model: LanguageModel, text: str, *, prepend_bos: bool = True) -> list[int]:
    """Token ids of a text.

    Text that spells a special token stays text, and exactly one BOS is put in front where the tokenizer
    has one.

    Args:
        model: Whose tokenizer to use.
        text: Any text.
        prepend_bos: Whether to put the BOS in front.

    Raises:
        ConfigurationError: The model has no tokenizer, or the text is not valid Unicode.
    """
    return encode_texts(model, [text], prepend_bos=prepend_bos)[0]


def encode_texts(model: LanguageModel, texts: Sequence[str], *, prepend_bos: bool = True) -> list[list[int]]:
    """Token ids of many texts; see ``encode_text``."""
    tokenizer = model.require_tokenizer()
    clean = [text.encode("utf-8", errors="replace").decode("utf-8") for text in texts]
    encoded: Any = tokenizer(clean, add_special_tokens=False, split_special_tokens=True, verbose=False)
    prefix = [model.bos_id] if prepend_bos and model.bos_id is not None else []
    return [[*prefix, *ids] for ids in encoded["input_ids"]]


def pad_batch(
    model: LanguageModel, rows: Sequence[Sequence[int]], *, side: Literal["left", "right"] = "right"
) -> TokenBatch:
    """Put rows of token ids into one padded batch on the model's device.

    Args:
        model: Decides the BOS, the special tokens and the device.
        rows: Token ids, one row for each sequence, none of them empty.
        side: Where padding goes.

    Raises:
        ConfigurationError: No rows, an empty row, or an id outside the vocabulary.
    """
    if not rows or any(len(row) == 0 for row in rows):
        raise ConfigurationError(
            "There is no token to run the model on.", hint="The text is empty and the model has no BOS."
        )
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, where] = torch.as_tensor(row, dtype=torch.long)
        mask[index, where] = 1
    known = embedding_rows(model.hf)
    if int(ids.min()) < 0 or int(ids.max()) >= known:
        raise ConfigurationError(
            f"A token id is outside the vocabulary of `{model.name}` (0 to {known - 1}).",
            hint="The text was tokenised for another model.",
        )
    special = torch.tensor(sorted(model.special_ids), dtype=torch.long)
    content = (mask == 1) & ~torch.isin(ids, special)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    device = model.device
    return TokenBatch(ids.to(device), mask.to(device), positions.to(device), content.to(device))
