"""The plan of the contexts pass: which windows make a shard, and which go through the model together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from onesense.errors import ConfigurationError
from onesense.features.context_accumulator import token_dtype
from onesense.features.context_kernel import WindowTable
from onesense.text.windows import Window


def limit_tokens(windows: Iterable[Window], most: int | None) -> Iterator[Window]:
    """Windows with at least one token, until ``most`` tokens have come; the last one is cut short."""
    left = most
    for window in windows:
        if left is not None and left <= 0:
            return
        ids = window.ids if left is None else window.ids[:left]
        if ids:
            yield Window(window.document, window.start, ids)
        if left is not None:
            left -= len(ids)


def plan_tables(windows: Iterable[Window], *, per_shard: int, n_ids: int) -> Iterator[WindowTable]:
    """Cut the stream of windows into shards of ``per_shard`` windows, whatever is done with them later.

    Raises:
        ConfigurationError: A document's number or a token's position does not fit 31 or 32 bits.
    """
    stream = iter(windows)
    while group := list(islice(stream, per_shard)):
        yield window_table(group, n_ids=n_ids)


def window_table(windows: Sequence[Window], *, n_ids: int) -> WindowTable:
    """Windows as arrays; ``n_ids`` is one above the largest token id."""
    length = np.array([len(window.ids) for window in windows], np.int64)
    document = np.array([window.document for window in windows], np.int64)
    start = np.array([window.start for window in windows], np.int64)
    if document.min() < 0 or document.max() >= 2**31 or start.min() < 0 or (start + length).max() >= 2**32:
        raise ConfigurationError(
            "The text has more than 2^31 documents, or a document of more than 2^32 tokens.",
            hint="Read it in parts, each into its own run folder.",
        )
    tokens = np.concatenate([np.asarray(window.ids, dtype=token_dtype(n_ids)) for window in windows])
    return WindowTable(document, start, length, np.cumsum(length) - length, tokens)


def window_ids(table: WindowTable, window: int) -> list[int]:
    """Token ids of one window."""
    first = int(table.offset[window])
    ids: list[int] = table.tokens[first : first + int(table.length[window])].tolist()
    return ids


def plan_batches(length: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Windows that go through the model together, so that padding is rare.

    The order of the windows, longest first, does not depend on ``most_tokens``: only where it is cut does.

    Args:
        length: Tokens of each window, BOS included.
        most_tokens: Most tokens of a padded batch; a longer window makes a batch by itself.
    """
    order = sorted(range(len(length)), key=lambda window: (-length[window], window))
    batch: list[int] = []
    for window in order:
        if batch and (len(batch) + 1) * length[batch[0]] > most_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def row_chunks(tokens_in_row: Sequence[int], most_tokens: int) -> Iterator[slice]:
    """Cut a batch into runs of whole rows with at most ``most_tokens`` tokens, at least one row each."""
    start, total = 0, 0
    for row, tokens in enumerate(tokens_in_row):
        if row > start and total + tokens > most_tokens:
            yield slice(start, row)
            start, total = row, 0
        total += tokens
    if start < len(tokens_in_row):
        yield slice(start, len(tokens_in_row))
