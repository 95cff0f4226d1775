"""Rows with a label and a document: checked, and divided into folds that keep documents whole."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onesense.errors import ConfigurationError, IncompatibleError, NumericalError
from onesense.senses.field_metrics.estimate import Floats, document_sums, ratio

Integers = NDArray[np.int64]
Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """What a concept is read from; see ``labelled_rows``.

    Attributes:
        latents: One row for each text (or token), float32 [rows, d_sae].
        labels: Whether the concept is there, [rows].
        documents: What must not be cut when rows are divided, and what the bootstrap draws, [rows].
    """

    latents: Matrix
    labels: NDArray[np.bool_]
    documents: tuple[Hashable, ...] = field(repr=False)

    @cached_property
    def live(self) -> Integers:
        """Ids of the latents that differ from 0 somewhere; the others are dead here and get no number."""
        return np.flatnonzero(self.latents.any(axis=0))

    def folds(self, count: int, seed: int) -> Iterator[tuple[Integers, Integers]]:
        """Rows to fit on and rows to score on; each row is scored once, and no document is in both.

        Args:
            count: Number of folds.
            seed: Which documents go together.

        Raises:
            ConfigurationError: Fewer than two folds, fewer documents than folds, or a class that is not in
                two folds.
        """
        from sklearn.model_selection import StratifiedGroupKFold

        codes = {document: code for code, document in enumerate(dict.fromkeys(self.documents))}
        groups = np.array([codes[document] for document in self.documents])
        if not 2 <= count <= len(codes):
            raise ConfigurationError(
                f"{len(codes)} documents cannot be divided into {count} folds.",
                hint=f"Choose 2 to {len(codes)} folds, or give more documents.",
            )
        for name, rows in (("true", self.labels), ("false", ~self.labels)):
            found = len(np.unique(groups[rows]))
            if found < count:
                raise ConfigurationError(
                    f"The label is {name} in {found} documents only, which is less than the {count} folds.",
                    hint="Give more documents of each class, or choose fewer folds.",
                )
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        for fitted, scored in splitter.split(np.zeros(len(groups)), self.labels, groups):
            if len(np.unique(self.labels[fitted])) < 2:
                raise ConfigurationError(
                    "Without one of the folds only one class is left to fit on.",
                    hint="Give more documents of each class, or choose another seed.",
                )
            if len(scored):
                yield fitted, scored


def labelled_rows(latents: Any, labels: ArrayLike, documents: Sequence[Hashable]) -> LabelledRows:
    """Check latents, labels and documents.

    Args:
        latents: An array or a tensor, [rows, d_sae].
        labels: True (or 1) where the concept is there, [rows].
        documents: The document of each row.

    Raises:
        IncompatibleError: Shapes disagree.
        NumericalError: NaN or infinity among the latents.
        ConfigurationError: One class only, one document only, a label that is neither true nor false, or no
            latent that ever differs from 0.
    """
    matrix, given = finite_matrix(latents, "latents"), np.asarray(labels)
    if given.shape != matrix.shape[:1] or len(documents) != len(matrix):
        raise IncompatibleError(
            f"There are {len(matrix)} rows of latents, labels of shape {list(given.shape)} and "
            f"{len(documents)} documents.",
            hint="Give one label and one document for each row.",
        )
    if not np.isin(given, [0, 1]).all():
        raise ConfigurationError("A label is neither true nor false.", hint="Give 1 or 0 for each row.")
    rows = LabelledRows(matrix, given.astype(bool), tuple(documents))
    present = np.unique(rows.labels)
    if len(present) < 2:
        found = "There is no row" if not len(present) else f"Every label is {str(present[0]).lower()}"
        raise ConfigurationError(
            f"{found}, so there is nothing to tell apart.",
            hint="Give texts with the concept and texts without it.",
        )
    if len(set(documents)) < 2:
        raise ConfigurationError(
            "All rows are from one document, so none can be held back to score on.",
            hint="Give texts of several documents.",
        )
    if not len(rows.live):
        raise ConfigurationError("No latent fires on these texts.", hint="Give more text.")
    return rows


def finite_matrix(values: Any, name: str) -> Matrix:
    """Values as float32 [rows, columns].

    Raises:
        IncompatibleError: There is another number of dimensions.
        NumericalError: NaN or infinity; the message names the first column.
    """
    if hasattr(values, "detach"):
        values = values.detach().float().cpu()
    matrix = np.asarray(values, dtype=np.float32)
    if matrix.ndim != 2:
        raise IncompatibleError(
            f"The {name} have shape {list(matrix.shape)}.", hint="Give one row for each text."
        )
    wrong = ~np.isfinite(matrix)
    if wrong.any():
        raise NumericalError(
            f"The {name} hold NaN or infinity, first in column {int(np.flatnonzero(wrong.any(axis=0))[0])}.",
            hint="Run the model in float32 or bfloat16; float16 overflows in many models.",
        )
    return matrix


def class_sums(correct: NDArray[np.bool_], truth: NDArray[np.bool_], documents: Sequence[Hashable]) -> Floats:
    """What balanced accuracies follow from, document by document.

    Args:
        correct: Whether each predictor is right, [rows, predictors].
        truth: The labels, [rows].
        documents: The document of each row.

    Returns:
        [documents, 2 * (predictors + 1)]: rows that are right of the true class, and how many there are; then
        the same of the false class.
    """
    counted = np.column_stack([correct, np.ones(len(correct), dtype=bool)])
    columns = np.column_stack([counted & truth[:, None], counted & ~truth[:, None]])
    return document_sums(columns.astype(np.float64), documents)


def balanced_accuracies(sums: Floats) -> Floats:
    """Mean of the shares of both classes that are right, [n, predictors]; NaN where a class is not there."""
    half = sums.shape[1] // 2
    true, false = sums[:, :half], sums[:, half:]
    return (ratio(true[:, :-1], true[:, -1:]) + ratio(false[:, :-1], false[:, -1:])) / 2
