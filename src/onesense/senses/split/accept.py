"""Which splits are kept: those that have one sense for each child and cost neither variance nor cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from onesense.senses.activity import Firings
from onesense.senses.split.children import Children

_SENTENCES = {
    "one sense": "Its contexts have one sense only.",
    "dead": "It does not fire in the text that is fitted on, or not in the one that is held out.",
    "too few contexts": "Too few contexts of two senses, or of a child on held-out text, to judge them.",
    "several senses": "A child has several senses itself on held-out text.",
    "not fewer senses": "On held-out text the children have no fewer senses than the feature.",
    "variance": "More of the variance of held-out text would stay unexplained.",
    "cross-entropy": "The cross-entropy of held-out text would rise.",
}


class Reason(StrEnum):
    """Why a feature was not split."""

    ONE_SENSE = "one sense"
    DEAD = "dead"
    TOO_FEW_CONTEXTS = "too few contexts"
    SEVERAL_SENSES = "several senses"
    NOT_FEWER_SENSES = "not fewer senses"
    VARIANCE = "variance"
    CROSS_ENTROPY = "cross-entropy"

    @property
    def sentence(self) -> str:
        """The reason, for people."""
        return _SENTENCES[self.value]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A feature that was not split.

    Attributes:
        feature: Its id.
        reason: Why.
        value: What was measured: effective number of senses of the children, or the change of FVU, or the relative
            change of cross-entropy; None where the reason is no number.
    """

    feature: int
    reason: Reason
    value: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Children whose senses have been judged.

    Attributes:
        children: They.
        shares: Of the parent's activation that falls to each sense, on the text that is fitted on.
        effective_before: Effective number of senses of the parent on held-out text.
        effective_after: Of the children, each counting by its activation.
        exactly_one: Share of the parent's firings on held-out text at which exactly one child fires.
        fvu_change: What it adds to the fraction of variance unexplained of held-out text.
    """

    children: Children
    shares: tuple[float, ...]
    effective_before: float
    effective_after: float
    exactly_one: float
    fvu_change: float = 0.0


class HeldOutError:
    """What a dictionary leaves unexplained on held-out text, as splits are accepted one by one.

    Args:
        inputs: What the encoder reads, [rows, d_in].
        residual: What the parents together have to give, [rows, d_in].
        latents: Of the parents, [rows, parents].
        decoder_rows: Of the parents, [parents, d_in].
        variance: Sum of squares of the text about its mean.
    """

    def __init__(
        self, inputs: Tensor, residual: Tensor, latents: Tensor, decoder_rows: Tensor, variance: float
    ) -> None:
        self._inputs, self._latents, self._decoder_rows = inputs, latents, decoder_rows
        self._error = residual - latents @ decoder_rows
        self._variance = variance

    def change(self, column: int, children: Children) -> tuple[float, Tensor, Tensor]:
        """What a split would add to the FVU; the rows where it changes something, and the error there.

        Args:
            column: Of the parent among the parents.
            children: Of that parent.
        """
        firing, before = children.latents(self._inputs), self._latents[:, column]
        rows = ((firing > 0).any(1) | (before > 0)).nonzero()[:, 0]
        old = self._error[rows]
        new = old + before[rows, None] * self._decoder_rows[column] - firing[rows] @ children.W_dec
        added = (new.double().square().sum() - old.double().square().sum()) / self._variance
        return float(added), rows, new

    def accept(self, rows: Tensor, error: Tensor) -> None:
        """Take the error of a split over."""
        self._error[rows] = error


def accept_by_variance(
    candidates: Sequence[tuple[int, Candidate]], held_out: HeldOutError, tolerance: float
) -> tuple[list[Candidate], list[Refusal]]:
    """Accept splits one by one, the best first, each judged beside those accepted before.

    Args:
        candidates: Column of the parent, and its split.
        held_out: The text; it follows what is accepted.
        tolerance: How much each may add to the FVU.
    """
    accepted, refused = [], []
    order = sorted(candidates, key=lambda one: (held_out.change(one[0], one[1].children)[0], one[0]))
    for column, one in order:
        change, rows, error = held_out.change(column, one.children)
        # NaN compares false and is refused.
        if change <= tolerance:
            held_out.accept(rows, error)
            accepted.append(_with_change(one, change))
        else:
            refused.append(Refusal(one.children.parent, Reason.VARIANCE, change))
    return accepted, refused


def accept_by_cross_entropy(
    candidates: Sequence[Candidate],
    measure: Callable[[Sequence[Candidate]], float],
    start: float,
    tolerance: float,
) -> tuple[list[Candidate], list[Refusal], float]:
    """Accept splits whose cross-entropy stays within their shares of the tolerance.

    A group is measured together; where it costs too much it is halved and each half is measured beside what has been
    accepted, down to single splits.

    Args:
        candidates: In the order in which they are tried.
        measure: Cross-entropy of held-out text with some splits.
        start: The same without any.
        tolerance: By which share of ``start`` all together may raise it; each has an equal part.

    Returns:
        What was accepted, what was not, and the cross-entropy with what was accepted.
    """
    accepted: list[Candidate] = []
    refused: list[Refusal] = []
    now, share = start, tolerance * start / max(len(candidates), 1)
    groups = [list(candidates)] if candidates else []
    while groups:
        group = groups.pop(0)
        found = measure([*accepted, *group])
        if found <= now + share * len(group):
            accepted += group
            now = found
        elif len(group) == 1:
            refused.append(Refusal(group[0].children.parent, Reason.CROSS_ENTROPY, (found - now) / start))
        else:
            half = len(group) // 2
            groups[:0] = [group[:half], group[half:]]
    return accepted, refused, now


def exactly_one(latents: Tensor, parent: Tensor) -> float:
    """Share of a parent's firings at which exactly one child fires; NaN where it never fires.

    Args:
        latents: Of the children, [positions, children].
        parent: Of the parent, [positions].
    """
    firing = (latents[parent > 0] > 0).sum(1)
    return float((firing == 1).double().mean())


def firings_of(latents: Tensor, rows: Tensor) -> Firings:
    """Where some units fire.

    Args:
        latents: [rows, units].
        rows: Position of each row in the activity, in order.
    """
    where = (latents.T > 0).nonzero()
    pointer = np.concatenate([[0], np.cumsum(np.bincount(where[:, 0].numpy(), minlength=latents.shape[1]))])
    return Firings(
        pointer.astype(np.int64),
        rows[where[:, 1]].numpy().astype(np.int32),
        latents[where[:, 1], where[:, 0]].numpy().astype(np.float32),
    )


def _with_change(one: Candidate, change: float) -> Candidate:
    return Candidate(
        one.children, one.shares, one.effective_before, one.effective_after, one.exactly_one, change
    )


def total_variance(targets: Tensor) -> float:
    """Sum of squares about the mean, in float64."""
    wide = targets.double()
    return float((wide - wide.mean(0)).square().sum()) or float(torch.finfo(torch.float64).tiny)
