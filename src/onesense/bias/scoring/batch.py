"""Texts packed for one forward pass: as trees of shared prefixes, or as padded rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.bias.scoring.encoded import Encoded

Ints = NDArray[np.int64]


class Span(NamedTuple):
    """Where a text is in a batch.

    Attributes:
        text: Number of the text.
        before: Step before its first scored one, or -1 where there is none.
        last: Step to its last token.
    """

    text: int
    before: int
    last: int


@dataclass(frozen=True, eq=False)
class ScoringBatch:
    """One forward pass, and the steps from token to token whose probability it tells.

    A node is a token after everything that stands before it; a step goes from a node to a token that may follow
    it. The last token of a text is a step only: nothing follows it, so that it need not be run.

    Attributes:
        tokens: Token ids, long [rows, columns]; node ``r * columns + c`` is at row r, column c.
        positions: Absolute positions, long [rows, columns].
        above: The node before each node, -1 at a first token, [nodes]; for a tree only.
        origin: The node from which each step goes, [steps].
        target: The token to which it goes, [steps].
        previous: The step before each step, -1 where there is none; it always has a smaller number, [steps].
        spans: Where each text is.
        prompt_lengths: Tokens before the first scored one in each row, where rows are texts; None for a tree.
    """

    tokens: Tensor
    positions: Tensor
    above: Ints
    origin: Ints
    target: Ints
    previous: Ints
    spans: tuple[Span, ...]
    prompt_lengths: tuple[int, ...] | None

    @property
    def tree(self) -> bool:
        """Whether nodes attend to those above them only (one row), and not to all before them in their row."""
        return self.prompt_lengths is None

    @cached_property
    def key(self) -> bytes:
        """What tells the forward pass from others."""
        digest = hashlib.sha256(self.tokens.numpy().tobytes())
        digest.update(self.above.tobytes())
        digest.update(str(tuple(self.tokens.shape)).encode())
        return digest.digest()

    @cached_property
    def scored(self) -> Ints:
        """The steps that count for some span, sorted; no other step's probability need be known, [scored]."""
        counts = np.zeros(len(self.origin), dtype=bool)
        for span in self.spans:
            step = span.last
            while step not in (-1, span.before):
                counts[step] = True
                step = int(self.previous[step])
        return np.flatnonzero(counts)

    @cached_property
    def nodes(self) -> Ints:
        """The nodes from which scored steps go, sorted: the only ones whose logits are wanted, [wanted]."""
        return np.unique(self.origin[self.scored])

    def nodes_to(self, span: Span) -> Ints:
        """The nodes of a text, from its first token to the one before its last, [tokens - 1]."""
        nodes, step = [], span.last
        while step >= 0:
            nodes.append(int(self.origin[step]))
            step = int(self.previous[step])
        return np.array(nodes[::-1], dtype=np.int64)

    def parts(self, texts: Sequence[Encoded], most: int) -> list[ScoringBatch]:
        """Its texts in batches of so many tokens at most, or of one text.

        Args:
            texts: The texts by number.
            most: Tokens of a batch.
        """
        mine = {span.text: texts[span.text] for span in self.spans}
        return list(tree_batches(mine, most) if self.tree else row_batches(mine, most))

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """For a tree what is added to attention scores, [1, 1, nodes, nodes]; None for rows padded on the right."""
        if not self.tree:
            return None
        n = len(self.above)
        sees = np.zeros((n, n), dtype=bool)
        for node, parent in enumerate(self.above):
            if parent >= 0:
                sees[node] = sees[parent]
            sees[node, node] = True
        mask = torch.zeros(n, n, dtype=dtype)
        mask.masked_fill_(torch.from_numpy(~sees), torch.finfo(dtype).min)
        return mask[None, None]

    def summed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each span the sum of a value over its scored steps.

        Args:
            values: The value of each step, [..., steps]; those that are not scored do not matter, but are numbers.
        """
        total = np.zeros((*values.shape[:-1], values.shape[-1] + 1))  # the last one stands for no step
        for step, previous in enumerate(self.previous):
            total[..., step] = values[..., step] + total[..., previous]
        last = np.array([span.last for span in self.spans], dtype=np.int64)
        before = np.array([span.before for span in self.spans], dtype=np.int64)
        return np.asarray(total[..., last] - total[..., before], dtype=np.float64)


def tree_batches(texts: Mapping[int, Encoded], max_nodes: int) -> Iterator[ScoringBatch]:
    """Texts in the order of their tokens, so that those that begin alike share nodes.

    Args:
        texts: The texts by number.
        max_nodes: Nodes of a batch, at most; a longer text is a batch by itself.
    """
    order = sorted(texts, key=lambda index: texts[index].ids)
    tree = _Tree()
    for index in order:
        ids = texts[index].ids
        if tree.spans and tree.nodes_with(ids) > max_nodes:
            yield tree.batch()
            tree = _Tree()
        tree.add(index, texts[index])
    if tree.spans:
        yield tree.batch()


def row_batches(texts: Mapping[int, Encoded], max_tokens: int) -> Iterator[ScoringBatch]:
    """Texts sorted by length, as rows padded on the right.

    Args:
        texts: The texts by number.
        max_tokens: Tokens of a batch, padding included; a longer text is a batch by itself.
    """
    order = sorted(texts, key=lambda index: (len(texts[index].ids), texts[index].ids))
    rows: list[int] = []
    for index in order:
        if rows and len(texts[index].ids) * (len(rows) + 1) > max_tokens:
            yield _rows(texts, rows)
            rows = []
        rows.append(index)
    if rows:
        yield _rows(texts, rows)


class _Tree:
    """A tree that is being grown from texts in the order of their tokens."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.depths: list[int] = []
        self.parents: list[int] = []
        self.spans: list[Span] = []
        self._path: list[int] = []  # tokens of the last text, by number

    def nodes_with(self, ids: Sequence[int]) -> int:
        """How many nodes there would be with one more text; its last token is none."""
        return len(self.tokens) - len(self.spans) + len(ids) - self._shared(ids) - 1

    def _shared(self, ids: Sequence[int]) -> int:
        count = 0
        for node, token in zip(self._path, ids, strict=False):
            if self.tokens[node] != token:
                break
            count += 1
        return count

    def add(self, index: int, text: Encoded) -> None:
        shared = self._shared(text.ids)
        del self._path[shared:]
        for depth in range(shared, len(text.ids)):
            self.parents.append(self._path[-1] if self._path else -1)
            self.tokens.append(text.ids[depth])
            self.depths.append(depth)
            self._path.append(len(self.tokens) - 1)
        self.spans.append(Span(index, self._path[text.start - 1], self._path[-1]))

    def batch(self) -> ScoringBatch:
        parents = np.array(self.parents, dtype=np.int64)
        tokens, depths = np.array(self.tokens, dtype=np.int64), np.array(self.depths, dtype=np.int64)
        inner = np.unique(parents[parents >= 0])
        node_of = _numbers(inner, len(tokens))
        steps = np.flatnonzero(parents >= 0)
        step_of = _numbers(steps, len(tokens))
        above = np.where(parents[inner] >= 0, node_of[parents[inner]], -1)
        return ScoringBatch(
            torch.from_numpy(tokens[inner])[None],
            torch.from_numpy(depths[inner])[None],
            above,
            node_of[parents[steps]],
            tokens[steps],
            step_of[parents[steps]],
            tuple(Span(one.text, int(step_of[one.before]), int(step_of[one.last])) for one in self.spans),
            prompt_lengths=None,
        )


def _numbers(chosen: Ints, total: int) -> Ints:
    """The place of each number among those chosen, -1 for the others."""
    numbers = np.full(total, -1, dtype=np.int64)
    numbers[chosen] = np.arange(len(chosen))
    return numbers


def _rows(texts: Mapping[int, Encoded], rows: Sequence[int]) -> ScoringBatch:
    width = max(len(texts[index].ids) for index in rows) - 1
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    origin: list[int] = []
    target: list[int] = []
    previous: list[int] = []
    spans = []
    for row, index in enumerate(rows):
        text = texts[index]
        steps = len(text.ids) - 1
        tokens[row, :steps] = torch.tensor(text.ids[:-1])
        first = len(origin)
        origin += range(row * width, row * width + steps)
        target += text.ids[1:]
        previous += [-1, *range(first, first + steps - 1)]
        spans.append(Span(index, first + text.start - 2 if text.start > 1 else -1, first + steps - 1))
    return ScoringBatch(
        tokens,
        torch.arange(width).expand(len(rows), width),
        np.zeros(0, dtype=np.int64),
        np.array(origin, dtype=np.int64),
        np.array(target, dtype=np.int64),
        np.array(previous, dtype=np.int64),
        tuple(spans),
        prompt_lengths=tuple(texts[index].start for index in rows),
    )
