"""What is known of a feature: what it promotes and where it fires, apart for explaining and for scoring.

Documents, not contexts, are divided into two halves before anything else, so that no text which an explanation
was made from is ever used to score it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from onesense.explain.explanation import WHOLE
from onesense.explain.passages import Passage, TokenPieces
from onesense.features.bands import octaves_of
from onesense.features.context_store import STATISTICS, Context, Contexts
from onesense.model.language_model import LanguageModel
from onesense.store.catalog import Catalog
from onesense.store.run_folder import RunFolder

TRAIN_CONTEXTS = 10
TEST_CONTEXTS = 24


@lru_cache(maxsize=65536)
def is_train(document: int, seed: int) -> bool:
    """Whether a document is read for explaining; the others are for scoring. Half of them, by a hash.

    Args:
        document: Number of the document.
        seed: Of the division.
    """
    digest = hashlib.blake2b(f"{seed}:{document}".encode(), digest_size=1).digest()
    return digest[0] & 1 == 0


@dataclass(frozen=True, slots=True)
class FeatureEvidence:
    """What is known of a feature, or of one sense of it.

    Attributes:
        feature: Id of the latent.
        promoted: Tokens that it promotes most, strongest first.
        suppressed: Tokens that it suppresses most, strongest first.
        train: Contexts for explaining: the strongest first, then from all activation bands in turn.
        test: Contexts for scoring, from all activation bands in turn; no document is in both.
        density: Share of tokens at which it fires; None where no text was read.
        maximum: Largest activation; None where no text was read.
        note: Why there are no contexts for explaining or for scoring; empty where there are.
        sense: Number of the sense, or ``WHOLE``.
    """

    feature: int
    promoted: tuple[str, ...] = ()
    suppressed: tuple[str, ...] = ()
    train: tuple[Passage, ...] = ()
    test: tuple[Passage, ...] = ()
    density: float | None = None
    maximum: float | None = None
    note: str = ""
    sense: int = WHOLE


class EvidenceReader:
    """Reads the evidence of features from a run of ``onesense extract``; use it as a context manager.

    Memory does not grow with the number of features that are read.

    Args:
        run: The run; it may have no contexts, then tokens are all that is known.
        model: Its model, for the text of tokens.
        seed: Of the division of documents, and of the order within activation bands.
        train_contexts: Most contexts for explaining.
        test_contexts: Most contexts for scoring.

    Raises:
        NotFoundError: The run has no catalogue.
        ConfigurationError: The model has no tokenizer.
    """

    def __init__(
        self,
        run: RunFolder,
        model: LanguageModel,
        seed: int = 0,
        *,
        train_contexts: int = TRAIN_CONTEXTS,
        test_contexts: int = TEST_CONTEXTS,
    ) -> None:
        self.seed = seed
        self.pieces = TokenPieces(model)
        self._most = (train_contexts, test_contexts)
        self._catalog = Catalog(run.catalog_path, read_only=True)
        self.contexts = Contexts.open(run) if run.has_result(STATISTICS) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._catalog.close()

    def evidence(self, feature: int) -> FeatureEvidence:
        """What is known of one feature.

        Raises:
            NotFoundError: There is no such feature.
            FormatError: A file of the run is damaged.
        """
        row = self._catalog.feature(feature)
        train, test, note = self._contexts(feature)
        return FeatureEvidence(
            feature,
            tuple(row.top_tokens),
            tuple(row.bottom_tokens),
            train,
            test,
            density=row.density,
            maximum=row.max_activation,
            note=note,
        )

    def _contexts(self, feature: int) -> tuple[tuple[Passage, ...], tuple[Passage, ...], str]:
        if self.contexts is None:
            return (), (), "No text was read."
        strongest = self.contexts.top(feature)
        if not strongest:
            return (), (), "It never fires in the text."
        bands = [self.contexts.sample(feature, band) for band in range(self.contexts.n_bands)]
        found = strongest + [context for band in bands for context in band]
        train, test = divided(found, self.seed)
        generator = np.random.default_rng([self.seed, feature])
        chosen = in_turn(train, self._most[0], generator, strongest_first=True)
        kept = apart_from(in_turn(test, self._most[1], generator), chosen)
        note = split_note(bool(chosen), bool(kept), len({one.document for one in found}))
        shown, hidden = (tuple(passage_of(one, self.pieces) for one in side) for side in (chosen, kept))
        return shown, hidden, note


def passage_of(context: Context, pieces: TokenPieces) -> Passage:
    """A context with its visible text."""
    ids = tuple(context.token_ids.tolist())
    return Passage(
        context.document,
        context.position - context.peak,
        ids,
        pieces.of(ids),
        tuple(context.activations.tolist()),
        context.peak,
    )


def split_note(train: bool, test: bool, documents: int) -> str:
    """Why contexts are missing on one side; empty where they are not."""
    if train and test:
        return ""
    lacking = "scoring" if train else "explaining"
    where = "one document" if documents == 1 else f"{documents} documents, all of the same half"
    return f"It fires in {where}: there is no context for {lacking}."


def divided(contexts: Iterable[Context], seed: int) -> tuple[list[Context], list[Context]]:
    """Contexts for explaining and for scoring, in their order, none that overlaps an earlier one."""
    sides: tuple[list[Context], list[Context]] = ([], [])
    taken: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for context in contexts:
        start = context.position - context.peak
        stop = start + len(context.token_ids)
        places = taken[context.document]
        if all(stop <= first or last <= start for first, last in places):
            places.append((start, stop))
            sides[0 if is_train(context.document, seed) else 1].append(context)
    return sides


def in_turn(
    contexts: Sequence[Context], number: int, generator: np.random.Generator, *, strongest_first: bool = False
) -> list[Context]:
    """Contexts from each octave of activation in turn, the strongest octave first, at random within each.

    Args:
        contexts: To choose from.
        number: How many at most.
        generator: Of the order within an octave.
        strongest_first: Whether the one strongest context is always taken, as the first.
    """
    if not contexts:
        return []
    activation: NDArray[np.float32] = np.array([one.activation for one in contexts], np.float32)
    octave = octaves_of(activation)
    order = generator.permutation(len(contexts))
    if strongest_first:
        best = int(activation.argmax())
        order = np.concatenate([[best], order[order != best]])
    rank = np.zeros(len(contexts), np.int64)
    for one in np.unique(octave):
        own = order[octave[order] == one]
        rank[own] = np.arange(len(own))
    chosen = np.lexsort((-octave, rank))[:number]
    return [contexts[index] for index in chosen]


def apart_from(contexts: Sequence[Context], others: Sequence[Context]) -> list[Context]:
    """Contexts whose tokens are those of no other: a document may be in a corpus twice."""
    known = {one.token_ids.tobytes() for one in others}
    return [one for one in contexts if one.token_ids.tobytes() not in known]
