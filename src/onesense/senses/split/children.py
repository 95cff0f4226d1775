"""The children of a feature: where each starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from torch import Tensor

from onesense.sae.dictionary import Dictionary
from onesense.senses.activity import Activity, Firings, Floats
from onesense.senses.sampling import Sample, shares
from onesense.senses.space import ContextVectors, SenseSpace, unit_rows
from onesense.senses.split.labelled import LabelledFeature
from onesense.senses.split.split_text import Part, SplitText

SMALLEST_SENSE = 4
"""Labelled contexts without which a sense makes no child; its contexts go to the nearest other sense."""

_MOST_CONTEXTS = 4000
_STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# The parent's decoder row counts as so many contexts in the regression of a child's.
_PRIOR_CONTEXTS = 8.0
_TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Sensed:
    """A feature with a sense for each of its contexts that are not held out.

    Attributes:
        feature: Its id.
        sense: Of each position, the largest sense is 0, -1 where there is none, [positions].
        shares: Of the activation, largest first, [senses].
    """

    feature: int
    sense: NDArray[np.int8]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Children:
    """Features that take the place of one.

    Attributes:
        parent: Id of the one.
        W_enc: [d_in, children].
        b_enc: [children].
        threshold: [children].
        W_dec: [children, d_in].
    """

    parent: int
    W_enc: Tensor
    b_enc: Tensor
    threshold: Tensor
    W_dec: Tensor

    def __len__(self) -> int:
        """How many children."""
        return len(self.b_enc)

    def latents(self, inputs: Tensor) -> Tensor:
        """Latents, [positions, children].

        Args:
            inputs: What the encoder reads, [positions, d_in].
        """
        pre = inputs @ self.W_enc + self.b_enc
        return pre.relu() * (pre > self.threshold)


def senses_of_contexts(
    one: LabelledFeature,
    activity: Activity,
    firings: Firings,
    space: SenseSpace,
    part: NDArray[np.int8],
    *,
    seed: int,
) -> Sensed | None:
    """The sense of a feature's contexts, all that are not held out: each goes to the sense that it is most alike.

    Only labels of contexts that are fitted on count.

    Args:
        one: The feature with some labelled contexts.
        activity: The text.
        firings: Of the dictionary.
        space: In which contexts are alike.
        part: Of each position.
        seed: Of the choice of contexts, where the feature has more than it takes.

    Returns:
        None where fewer than two senses have enough labelled contexts.
    """
    fitted = part[one.position] == Part.FIT
    labels, counts = np.unique(one.label[fitted], return_counts=True)
    labels = labels[counts >= SMALLEST_SENSE]
    if len(labels) < 2:
        return None
    position, value = firings.of(one.feature)
    known = part[position] != Part.HELD_OUT
    position, value = position[known], value[known]
    if len(position) > _MOST_CONTEXTS:
        given = np.isin(position, one.position[fitted])
        drawn = np.random.default_rng([seed, one.feature]).permutation(len(position))[:_MOST_CONTEXTS]
        given[drawn] = True
        position, value = position[given], value[given]
    direction = space.directions[one.feature]
    found = _views(space.vectors(Sample(position, value), direction))
    alike = np.zeros((len(position), len(labels)))
    for column, label in enumerate(labels):
        own = one.position[fitted & (one.label == label)]
        examples = _views(
            space.vectors(Sample(own.astype(np.int32), np.ones(len(own), np.float32)), direction)
        )
        for rows, example in zip(found, examples, strict=True):
            alike[:, column] += rows @ unit_rows(example.mean(0, keepdims=True))[0]
        alike[np.isin(position, own), column] = np.inf
    nearest = alike.argmax(1)
    mass = shares(value, nearest, len(labels))
    order = np.argsort(-mass, kind="stable")
    sense = np.full(len(activity), -1, np.int8)
    sense[position] = np.argsort(order, kind="stable")[nearest]
    return Sensed(one.feature, sense, tuple(float(share) for share in mass[order]))


def make_children(text: SplitText, dictionary: Dictionary, column: int, sense: NDArray[np.int8]) -> Children:
    """Children of one parent, one for each sense.

    An encoder starts from the parent's and adds the direction that tells its sense from the others: the difference
    of means, or Fisher's discriminant, whichever separates contexts that it was not fitted on. How much of it is
    added, and the threshold, are what costs least squared error, if a child has to give what the parent gave in
    its sense and nothing elsewhere.

    Args:
        text: The text.
        dictionary: On the CPU, its norm factor folded in.
        column: Of the parent, among those of the text.
        sense: Of each position, -1 where there is none.
    """
    parent = text.features[column]
    label = torch.from_numpy(sense)
    # Contexts of the parent without a sense say nothing about where a child should fire.
    fit = torch.from_numpy((text.part == Part.FIT) & ((sense >= 0) | (text.latents[:, column] == 0).numpy()))
    row = dictionary.W_dec[parent]
    pre = (text.inputs @ dictionary.W_enc[:, parent] + dictionary.b_enc[parent])[fit]
    wanted = wanted_of(text, dictionary, column, (fit & (label >= 0)).nonzero()[:, 0])
    label = label[fit]
    made = []
    for number, direction in enumerate(_directions(text, sense)):
        own, others = label == number, (label >= 0) & (label != number)
        along = (text.inputs @ direction)[fit]
        factor, shift, threshold, decoder = _child(
            along, pre, own, others, wanted[label[label >= 0] == number], row
        )
        made.append((factor * direction, shift, threshold, decoder))
    added, shift, threshold, rows = (torch.stack(part) for part in zip(*made, strict=True))
    encoder = dictionary.W_enc[:, parent, None] + added.T
    return Children(parent, encoder, dictionary.b_enc[parent] + shift, threshold, rows)


def wanted_of(text: SplitText, dictionary: Dictionary, column: int, rows: Tensor) -> Tensor:
    """What is left for a parent to give at some positions when all other features give what they do, [rows, d_in]."""
    others = text.latents[rows]
    others[:, column] = 0
    return text.residual[rows] - others @ dictionary.W_dec[list(text.features)]


def _views(vectors: ContextVectors) -> tuple[Floats, Floats, Floats]:
    return unit_rows(vectors.shared), unit_rows(vectors.written), unit_rows(vectors.firing.toarray())


def _directions(text: SplitText, sense: NDArray[np.int8]) -> list[Tensor]:
    """For each sense the direction of norm 1 that separates it better from the others."""
    parts = []
    for part in (Part.FIT, Part.CHOICE):
        rows = np.flatnonzero((text.part == part) & (sense >= 0))
        parts.append((text.inputs[torch.from_numpy(rows)].numpy().astype(np.float64), sense[rows]))
    (inputs, labels), (unseen, truth) = parts
    number = int(sense.max()) + 1
    means = np.stack([inputs[labels == one].mean(0) for one in range(number)]) - inputs.mean(0)
    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(inputs, labels).coef_
    discriminants = np.concatenate([-fitted, fitted]) if number == 2 else fitted
    return [
        torch.from_numpy(_better(means[one], discriminants[one], unseen, truth == one)).float()
        for one in range(number)
    ]


def _better(
    means: NDArray[np.float64],
    discriminant: NDArray[np.float64],
    unseen: NDArray[np.float64],
    own: NDArray[np.bool_],
) -> NDArray[np.float64]:
    found = [one / max(float(np.linalg.norm(one)), _TINY) for one in (discriminant, means)]
    if own.all() or not own.any():
        return found[0]
    return max(found, key=lambda one: float(roc_auc_score(own, unseen @ one)))


def _child(
    along: Tensor, pre: Tensor, own: Tensor, others: Tensor, wanted: Tensor, row: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How much of its direction a child adds to the parent's encoder, and to the bias; threshold and decoder row."""
    centre = along[own].mean()
    gap = (centre - along[others].mean()).clamp_min(max(1e-3 * float(along.std()), _TINY))
    unit = pre[own].clamp_min(0).mean() / gap
    found = []
    for strength in _STRENGTHS:
        factor = strength * unit
        child = pre + factor * (along - centre)
        decoder = regressed_row(child[own].clamp_min(0), wanted, row)
        threshold, cost = _threshold(child, own, wanted @ decoder, decoder)
        found.append((cost, factor, -factor * centre, threshold, decoder))
    _cost, *best = min(found, key=lambda one: one[0])
    factor, shift, threshold, decoder = best
    return factor, shift, threshold, decoder


def regressed_row(latent: Tensor, wanted: Tensor, row: Tensor) -> Tensor:
    """The decoder row of a child, by regression with the parent's row as the prior.

    Args:
        latent: Of the child at its contexts, [n].
        wanted: What it should give there, [n, d_in].
        row: The parent's decoder row, [d_in].
    """
    energy = latent.square()
    left = latent @ (wanted - latent[:, None] * row)
    return row + left / (energy.sum() + _PRIOR_CONTEXTS * energy.mean()).clamp_min(_TINY)


def _threshold(pre: Tensor, own: Tensor, agreement: Tensor, row: Tensor) -> tuple[Tensor, float]:
    """Where a child begins to fire, never below 0, and the squared error that it adds.

    Args:
        pre: Its pre-activation, [rows].
        own: Where it should fire, [rows].
        agreement: What it should give there, along its decoder row, [own].
        row: That row, [d_in].
    """
    along = torch.zeros_like(pre)
    along[own] = agreement
    cost = pre.square() * row.square().sum() - 2 * pre * along
    order = pre.argsort(descending=True)
    order = order[pre[order] > 0]
    total = cost[order].double().cumsum(0)
    if not len(total) or total.min() >= 0:
        return pre.max().clamp_min(0), 0.0
    last = int(total.argmin())
    edge = pre[order[last]]
    below = pre[order[last + 1]] if last + 1 < len(order) else edge.new_zeros(())
    return (edge + below) / 2, float(total[last])
