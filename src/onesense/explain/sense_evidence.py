"""What is known of one sense of a feature, from a run of ``onesense senses measure``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onesense.errors import NotFoundError
from onesense.explain.evidence import FeatureEvidence, apart_from, divided, in_turn, passage_of, split_note
from onesense.explain.passages import TokenPieces
from onesense.features.context_store import Context
from onesense.model.language_model import LanguageModel
from onesense.senses.measure import FEATURES, open_measured
from onesense.store.run_folder import RunFolder

_BEFORE, _AFTER = 24, 8


class SenseEvidenceReader:
    """Reads the contexts of each sense of a feature. Activations are known at the peaks only.

    Args:
        run: The run of ``onesense senses measure``.
        model: Its model, for the text of tokens.
        seed: Of the division of documents into those for explaining and those for scoring.

    Raises:
        NotFoundError: The run holds no measured senses.
        FormatError: A file is damaged.
    """

    def __init__(self, run: RunFolder, model: LanguageModel, seed: int = 0) -> None:
        self._activity, tables = open_measured(run)
        self._table = tables[FEATURES]
        self._pieces = TokenPieces(model)
        self.seed = seed

    def senses(self, feature: int) -> int:
        """Number of senses of a feature; 0 where nobody knows.

        Raises:
            NotFoundError: There is no such feature.
        """
        if not 0 <= feature < len(self._table.number):
            raise NotFoundError(
                f"There is no feature {feature} among the measured ones.",
                hint=f"They go from 0 to {len(self._table.number) - 1}.",
            )
        return int(self._table.number[feature])

    def evidence(
        self, whole: FeatureEvidence, sense: int, *, train_contexts: int = 10, test_contexts: int = 24
    ) -> FeatureEvidence:
        """The same feature with the contexts of one sense in place of all.

        Args:
            whole: What is known of the feature.
            sense: 0 is the largest.
            train_contexts: Most contexts for explaining.
            test_contexts: Most contexts for scoring.

        Raises:
            NotFoundError: The feature has no such sense.
        """
        number = self.senses(whole.feature)
        if not 0 <= sense < max(number, 1):
            raise NotFoundError(
                f"Feature {whole.feature} has no sense {sense}.", hint=f"It has {number} senses, from 0."
            )
        sample = self._table.sense(whole.feature, sense)
        found = [
            self._context(int(position), float(value))
            for position, value in zip(sample.position, sample.value, strict=True)
        ]
        train, test = divided(found, self.seed)
        generator = np.random.default_rng([self.seed, whole.feature, sense])
        chosen = in_turn(train, train_contexts, generator, strongest_first=True)
        kept = apart_from(in_turn(test, test_contexts, generator), chosen)
        return replace(
            whole,
            train=tuple(passage_of(one, self._pieces) for one in chosen),
            test=tuple(passage_of(one, self._pieces) for one in kept),
            note=split_note(bool(chosen), bool(kept), len({one.document for one in found})),
            sense=sense,
        )

    def _context(self, position: int, value: float) -> Context:
        activity = self._activity
        low = max(0, position - _BEFORE)
        near = np.arange(low, min(len(activity), position + _AFTER))
        # Positions of other windows, or behind a token that was left out, are no part of this stretch.
        own = (activity.window[near] == activity.window[position]) & (
            activity.offset[near] - activity.offset[position] == near - position
        )
        near = near[own]
        peak = int(np.searchsorted(near, position))
        activations = np.zeros(len(near), np.float32)
        activations[peak] = value
        return Context(
            int(activity.document[position]),
            int(activity.offset[position]),
            activity.token[near].astype(np.int64),
            activations,
            peak,
        )
