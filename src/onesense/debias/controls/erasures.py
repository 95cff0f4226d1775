"""Linear erasures of gender, as dictionaries with edits: what a recipe's peers would do at the same place.

Each takes ``strength * sum_i (a_i . (h - mean)) * w_i`` away from the activation. With strength 1 that is the
erasure as published, except that a projection here is about the mean of the labelled activations unless
``centred`` is off: activations are then moved less, and not all to one side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.debias.controls.activations import LabelledActivations
from onesense.debias.controls.signed_pairs import scaled, signed_pairs
from onesense.errors import ConfigurationError
from onesense.sae.dictionary import Dictionary, Normalization
from onesense.steer.intervention import EditGroup
from onesense.steer.where import Where

_HELD_BACK = 0.25
_DEPENDENT = 1e-6


@dataclass(frozen=True, eq=False)
class Erasure:
    """A linear erasure.

    Attributes:
        name: Its name, for tables.
        dictionary: A pair of features for each coordinate that it takes away.
    """

    name: str
    dictionary: Dictionary

    @property
    def rank(self) -> int:
        """How many coordinates it takes away."""
        return self.dictionary.d_sae // 2

    def group(self, strength: float = 1.0, *, where: Where | None = None) -> EditGroup:
        """The edits at a strength.

        Args:
            strength: 0 changes nothing, 1 takes the coordinates away, more turns them round.
            where: The positions; None for every token that is not special.

        Raises:
            ConfigurationError: The strength is negative or not finite.
        """
        if not 0 <= strength < math.inf:
            raise ConfigurationError(f"The strength is {strength}; it must be a number from 0.")
        return scaled(self.dictionary, range(self.dictionary.d_sae), 1 - strength, where=where)


def difference_of_means(data: LabelledActivations, *, centred: bool = True) -> Erasure:
    """Projection along the difference between the mean of women and the mean of men.

    The direction is that of Rimsky et al. 2024 (contrastive activation addition, arXiv:2312.06681), projected
    out as by Arditi et al. 2024 (arXiv:2406.11717).

    Args:
        data: Labelled activations.
        centred: Whether the projection is about their mean; otherwise through the origin.

    Raises:
        ConfigurationError: The means are equal.
    """
    difference = data.women.double().mean(0) - data.men.double().mean(0)
    return _projection("difference of means", data, difference[:, None], centred)


def leace(data: LabelledActivations) -> Erasure:
    """LEACE, the smallest affine change after which no linear classifier tells the genders apart.

    Belrose et al. 2023, arXiv:2306.03819; fitted by concept-erasure. Its coordinates are oblique: what is
    read is not what is written. The covariance is shrunk, as is the library's default.

    Args:
        data: Labelled activations.

    Raises:
        ConfigurationError: The activations of women and men have the same mean.
    """
    from concept_erasure import LeaceFitter

    # Erasure never adds variance to what it was fitted on, so the library's guard against that stays off.
    fitter = LeaceFitter.fit(data.values.double(), data.labels, constrain_cov_trace=False)
    eraser = fitter.eraser
    kept = eraser.proj_left.norm(dim=0) > 0
    if not bool(kept.any()):
        raise _no_difference("LEACE", data)
    dictionary = signed_pairs(
        data.point,
        eraser.proj_right[kept].T,
        eraser.proj_left[:, kept].T,
        mean=eraser.bias,
        model_name=data.model_name,
    )
    return Erasure("LEACE", dictionary)


def inlp(data: LabelledActivations, *, rounds: int = 20, seed: int = 0, centred: bool = True) -> Erasure:
    """INLP, iterative nullspace projection: one classifier of gender after the other, each projected out.

    Ravfogel et al. 2020, arXiv:2004.07667, with logistic regression. It ends once a classifier does no better
    than chance (by one standard error) on a quarter of the families that are held back.

    Args:
        data: Labelled activations.
        rounds: Directions to take, at most.
        seed: Which families are held back.
        centred: Whether the projection is about the mean of the activations; otherwise through the origin.

    Raises:
        ConfigurationError: The first classifier is no better than chance, or all pairs are of one family.
    """
    if rounds < 1:
        raise ConfigurationError(f"INLP takes at least one round (given: {rounds}).")
    values: NDArray[np.float64] = (data.values - data.mean).double().numpy()
    # One scale for all coordinates, so that the classifier's penalty weighs the same at every depth.
    values /= max(float(np.sqrt(np.mean(values**2))), np.finfo(np.float64).tiny)
    labels: NDArray[np.int64] = data.labels.numpy()
    fitted, judged = _held_back(data, seed)
    chance = 0.5 + math.sqrt(0.25 / len(judged))
    basis = np.empty((values.shape[1], 0))
    for _ in range(min(rounds, values.shape[1])):
        left = values - (values @ basis) @ basis.T
        direction, accuracy = _classifier(left, labels, fitted, judged)
        direction = direction - basis @ (basis.T @ direction)
        norm = float(np.linalg.norm(direction))
        if accuracy <= chance or norm == 0:
            break
        basis = np.column_stack([basis, direction / norm])
    return _projection("INLP", data, torch.from_numpy(basis), centred)


def sentence_debias(data: LabelledActivations, *, k: int = 1, centred: bool = True) -> Erasure:
    """SentenceDebias: the first principal directions of what differs within pairs, projected out.

    Liang et al. 2020, arXiv:2007.08100: each pair is centred on its own mean, and PCA runs over all that
    is left.

    Args:
        data: Labelled activations.
        k: How many directions; the authors' GPT-2 results, and those of Meade et al. 2022, take 1.
        centred: Whether the projection is about the mean of the activations; otherwise through the origin.

    Raises:
        ConfigurationError: More directions than pairs or dimensions, or the texts of no pair differ.
    """
    most = min(data.women.shape)
    if not 1 <= k <= most:
        raise ConfigurationError(f"{k} directions cannot be found here.", hint=f"Take 1 to {most}.")
    # The two halves of a pair, centred on its mean, are opposite: their PCA is that of the differences.
    differences = (data.women - data.men).double()
    directions = torch.linalg.svd(differences, full_matrices=False).Vh[:k]
    return _projection(
        "SentenceDebias", data, directions.T if bool(differences.any()) else directions.T[:, :0], centred
    )


def encoder_projection(
    dictionary: Dictionary, features: Sequence[int], *, mean: Tensor | None = None
) -> Erasure:
    """S&P Top-K: the encoder directions of a dictionary's gender features, projected out of the activation.

    Bărbălau et al. 2025, arXiv:2509.10809. Nothing is reconstructed, so the dictionary's error plays no part.

    Args:
        dictionary: The dictionary.
        features: Its gender features, such as the K of highest attribution.
        mean: What the projection is about, [d_in]; None for the origin, as published.

    Raises:
        ConfigurationError: No feature is given, or their encoders are zero.
        NotFoundError: A feature does not exist.
        IncompatibleError: The mean has another width.
    """
    if not features:
        raise ConfigurationError("No feature is given to project out.", hint="Give at least one.")
    ids = torch.tensor(sorted(set(features)))
    dictionary.decoder_rows(ids)  # refuses ids that do not exist
    encoders = dictionary.W_enc.detach().to("cpu", torch.float64)[:, ids]
    preparation = dictionary.preparation
    if preparation.center or preparation.normalization is Normalization.LAYER_NORM:
        # The encoder never sees an activation's mean over the width, so this much of it reads nothing.
        encoders = encoders - encoders.mean(0)
    directions = _orthonormal(encoders)
    if directions.shape[1] == 0:
        raise ConfigurationError("The encoders of these features are zero.", hint="Choose other features.")
    name = dictionary.origin.model_name
    return Erasure(
        "encoder projection",
        signed_pairs(dictionary.hook_point, directions, directions.T, mean=mean, model_name=name),
    )


def _projection(name: str, data: LabelledActivations, directions: Tensor, centred: bool) -> Erasure:
    """The orthogonal projection onto what is orthogonal to some directions, [width, directions]."""
    basis = _orthonormal(directions)
    if basis.shape[1] == 0:
        raise _no_difference(name, data)
    mean = data.mean if centred else None
    return Erasure(name, signed_pairs(data.point, basis, basis.T, mean=mean, model_name=data.model_name))


def _orthonormal(directions: Tensor) -> Tensor:
    """An orthonormal basis of the span of some directions, float64 [width, rank]."""
    norms = directions.norm(dim=0)
    directions = directions[:, norms > 0] / norms[norms > 0]
    left, sizes, _ = torch.linalg.svd(directions, full_matrices=False)
    basis: Tensor = left[:, sizes > _DEPENDENT]
    return basis


def _no_difference(name: str, data: LabelledActivations) -> ConfigurationError:
    return ConfigurationError(
        f"{name} finds no difference between women and men at {data.point} of `{data.model_name}`.",
        hint="Choose another hook point, or give more pairs of texts.",
    )


def _held_back(data: LabelledActivations, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to fit on and rows to judge by; a family is in one of the two."""
    names = sorted(set(data.families))
    if len(names) < 2:
        raise ConfigurationError(
            "All pairs are about one word, so none can be held back to judge a classifier.",
            hint="Give pairs of several families.",
        )
    size = max(1, round(_HELD_BACK * len(names)))
    drawn = {names[number] for number in np.random.default_rng(seed).permutation(len(names))[:size]}
    judged = np.tile(np.array([family in drawn for family in data.families]), 2)
    return np.flatnonzero(~judged), np.flatnonzero(judged)


def _classifier(
    values: NDArray[np.float64],
    labels: NDArray[np.int64],
    fitted: NDArray[np.int64],
    judged: NDArray[np.int64],
) -> tuple[NDArray[np.float64], float]:
    """The direction of a linear classifier, [width], and its accuracy on the rows that were held back."""
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(max_iter=1000).fit(values[fitted], labels[fitted])
    direction: NDArray[np.float64] = classifier.coef_[0]
    return direction, float(classifier.score(values[judged], labels[judged]))


__all__ = [
    "Erasure",
    "difference_of_means",
    "encoder_projection",
    "inlp",
    "leace",
    "sentence_debias",
]
