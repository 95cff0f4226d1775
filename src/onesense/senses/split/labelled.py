"""What shall be split: features, and which of their contexts belong to which sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError
from onesense.sae.architecture import Architecture
from onesense.sae.dictionary import Dictionary
from onesense.senses.activity import Activity, Firings


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFeature:
    """A feature with labelled contexts.

    Attributes:
        feature: Its id.
        position: Rows among the positions of the activity, [contexts].
        label: Sense of each, from 0, [contexts].
    """

    feature: int
    position: NDArray[np.integer]
    label: NDArray[np.integer]

    def __post_init__(self) -> None:
        if self.position.shape != self.label.shape or self.position.ndim != 1:
            raise IncompatibleError(
                f"Feature {self.feature}: {self.position.size} contexts and {self.label.size} labels do not "
                "belong together."
            )


def require_splittable(dictionary: Dictionary) -> None:
    """Refuse a dictionary whose features cannot be replaced one by one.

    Raises:
        IncompatibleError: Its rule, or its normalisation, does not allow it.
    """
    rule = dictionary.architecture
    if rule in (Architecture.TOPK, Architecture.GATED):
        why = (
            "more features would change which ones are among the largest"
            if rule is Architecture.TOPK
            else "its gate and its magnitude are two different readings"
        )
        raise IncompatibleError(
            f"The features of a {rule} dictionary cannot be split: {why}.",
            hint="Choose a relu or jumprelu dictionary; batchtopk ones are read as jumprelu.",
        )
    if dictionary.preparation.normalization.per_token:
        raise IncompatibleError(
            f"{dictionary.origin.label} normalises each token by itself "
            f"({dictionary.preparation.normalization}); its features cannot be split.",
            hint="Choose a dictionary without such a normalisation.",
        )


def require_fitting(
    labelled: Sequence[LabelledFeature], dictionary: Dictionary, activity: Activity, firings: Firings
) -> None:
    """Refuse labels that do not belong to the dictionary and the text.

    Raises:
        ConfigurationError: Nothing to split, or a feature is given twice.
        NotFoundError: A feature id is out of range.
        IncompatibleError: The firings are of another dictionary, or a labelled context is none of its feature.
    """
    if not labelled:
        raise ConfigurationError("There is no feature to split.", hint="Name at least one.")
    ids = [one.feature for one in labelled]
    twice = next((id_ for id_ in ids if ids.count(id_) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"Feature {twice} is given twice.", hint="Name each feature once.")
    wrong = next((id_ for id_ in ids if not 0 <= id_ < dictionary.d_sae), None)
    if wrong is not None:
        raise NotFoundError(
            f"There is no feature {wrong} in {dictionary.origin.label}.",
            hint=f"Ids run from 0 to {dictionary.d_sae - 1}.",
        )
    if len(firings.pointer) - 1 != dictionary.d_sae:
        raise IncompatibleError(
            f"The contexts are those of {len(firings.pointer) - 1} features; {dictionary.origin.label} has "
            f"{dictionary.d_sae}.",
            hint="Measure the senses of this dictionary first.",
        )
    for one in labelled:
        outside = one.position.size and not 0 <= one.position.min() <= one.position.max() < len(activity)
        if outside or not np.isin(one.position, firings.of(one.feature)[0]).all():
            raise IncompatibleError(
                f"Feature {one.feature} of {dictionary.origin.label} does not fire at all of its labelled "
                "contexts.",
                hint="The labels are of another dictionary or another text; measure the senses again.",
            )
