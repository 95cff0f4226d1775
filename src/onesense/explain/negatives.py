"""Negatives for scoring: texts where a feature does not fire, some of them hard to tell from where it does."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from onesense.engine.executor import Executor
from onesense.engine.stages import Silent, Stages
from onesense.errors import FormatError, IncompatibleError, NotFoundError
from onesense.explain.negative_pool import Pool, PoolSettings, choose_windows, partners, read_pool
from onesense.explain.negative_stretches import Ints
from onesense.explain.passages import Passage, TokenPieces
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document

NEGATIVES = "negatives"
"""Name of the result."""

NegativeKind = Literal["co_firing", "nearest", "random"]
NEGATIVE_KINDS: tuple[NegativeKind, ...] = get_args(NegativeKind)


@dataclass(frozen=True, slots=True)
class Negative:
    """A text of a test document where a feature does not fire.

    Attributes:
        kind: ``random``: any; ``co_firing``: one where a feature fires that often fires with it; ``nearest``: one
            whose residual comes near to what the feature writes.
        passage: The text; its peak is the token that makes it hard, its activations are 0.
    """

    kind: NegativeKind
    passage: Passage


class Negatives:
    """Draws negatives of any feature from a pool that was read once.

    Args:
        pool: Stretches, and where features fire among them.
        partners: For each feature others that fire with it, most often first, -1 for none, [d_sae, n].
        pieces: For the text of tokens.
    """

    def __init__(self, pool: Pool, partners: Ints, pieces: TokenPieces) -> None:
        self.pool = pool
        self._partners = partners
        self._pieces = pieces
        self._known: dict[int, Passage] = {}  # at most one for each stretch of the pool
        self._by_document: dict[int, list[int]] = defaultdict(list)
        self._by_tokens: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for stretch, document in enumerate(pool.document.tolist()):
            self._by_document[document].append(stretch)
            self._by_tokens[self._ids(stretch)].append(stretch)

    def draw(self, feature: int, number: int, *, seed: int, avoid: Sequence[Passage] = ()) -> list[Negative]:
        """Negatives of a feature, a third of each kind; where one kind runs out the others fill up.

        Args:
            feature: Id of the latent.
            number: How many; fewer where the feature fires nearly everywhere.
            seed: Of the draw.
            avoid: Contexts that no negative may overlap or repeat.

        Raises:
            NotFoundError: There is no such feature.
        """
        if not 0 <= feature < self.pool.n_features:
            raise NotFoundError(
                f"There is no feature {feature}.", hint=f"Features run from 0 to {self.pool.n_features - 1}."
            )
        generator = np.random.default_rng([seed, feature])
        fires = np.zeros(len(self.pool), np.bool_)
        fires[self.pool.stretch[self.pool.firings(feature)]] = True
        sources = {
            "co_firing": self._co_firing(feature, fires),
            "nearest": self._nearest(feature),
            "random": self._random(fires, generator),
        }
        taken = self._barred(avoid)
        found: list[Negative] = []
        kinds = list(NEGATIVE_KINDS)
        while kinds and len(found) < number:
            for kind in tuple(kinds):
                negative = self._next(kind, sources[kind], taken)
                if negative is None:
                    kinds.remove(kind)
                elif len(found) < number:
                    found.append(negative)
        return found

    def _barred(self, avoid: Sequence[Passage]) -> set[int]:
        """Stretches that overlap one of some passages, or repeat it."""
        barred: set[int] = set()
        for one in avoid:
            here = self._by_document.get(one.document, ()), self._by_tokens.get(one.token_ids, ())
            barred.update(stretch for stretch in here[0] if self._bare(stretch).overlaps(one))
            barred.update(here[1])
        return barred

    def _next(
        self, kind: NegativeKind, source: Iterator[tuple[int, int]], taken: set[int]
    ) -> Negative | None:
        for stretch, position in source:
            if stretch not in taken:
                taken.add(stretch)
                return Negative(kind, replace(self._bare(stretch), peak=position))
        return None

    def _co_firing(self, feature: int, fires: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
        """Where each partner fires most strongly without the feature, the partners in turn."""
        lists = []
        for partner in self._partners[feature]:
            if partner >= 0:
                own = self.pool.firings(int(partner))
                entries = np.arange(own.start, own.stop)[~fires[self.pool.stretch[own]]]
                if len(entries):
                    lists.append(entries)
                    yield self._entry(entries[self.pool.activation[entries].argmax()])
        # Most draws end before it takes an order.
        ordered = [entries[np.argsort(-self.pool.activation[entries], kind="stable")] for entries in lists]
        for turn in range(1, max(map(len, ordered), default=0)):
            for entries in ordered:
                if turn < len(entries):
                    yield self._entry(entries[turn])

    def _entry(self, entry: np.signedinteger[Any]) -> tuple[int, int]:
        return int(self.pool.stretch[entry]), int(self.pool.position[entry])

    def _nearest(self, feature: int) -> Iterator[tuple[int, int]]:
        for stretch, position in zip(
            self.pool.nearest[feature], self.pool.nearest_position[feature], strict=True
        ):
            if stretch >= 0:
                yield int(stretch), int(position)

    def _random(self, fires: NDArray[np.bool_], generator: np.random.Generator) -> Iterator[tuple[int, int]]:
        for stretch in generator.permutation(np.flatnonzero(~fires)):
            yield int(stretch), int(generator.integers(len(self._bare(int(stretch)).token_ids)))

    def _bare(self, stretch: int) -> Passage:
        """A stretch as a passage in which nothing fires."""
        if stretch not in self._known:
            ids = self._ids(stretch)
            self._known[stretch] = Passage(
                int(self.pool.document[stretch]),
                int(self.pool.start[stretch]),
                ids,
                self._pieces.of(ids),
                (0.0,) * len(ids),
                peak=0,
            )
        return self._known[stretch]

    def _ids(self, stretch: int) -> tuple[int, ...]:
        row = self.pool.tokens[stretch]
        return tuple(row[row >= 0].tolist())


def collect_negatives(
    model: LanguageModel,
    dictionary: Dictionary,
    documents: Iterable[Document],
    run: RunFolder,
    *,
    pieces: TokenPieces | None = None,
    settings: PoolSettings | None = None,
    stages: Stages | None = None,
    executor: Executor | None = None,
) -> Negatives:
    """Read a part of the test documents once; what was read before is opened.

    Call it inside ``run.lock()``.

    Args:
        model: The model, in the dtype to compute in.
        dictionary: The features.
        documents: The text of the run's contexts, numbered as there.
        run: Where the result is kept.
        pieces: For the text of tokens; None: made here.
        settings: How much is read, and the seed that divides documents.
        stages: Told about progress.
        executor: Where they are read; None: here. Results do not depend on it.

    Raises:
        ConfigurationError: No test document holds a token, or the context does not fit the model.
        IncompatibleError: The folder holds negatives of another model, dictionary or settings.
        NumericalError: NaN or infinity among the activations.
        StorageError: The disk is full, read-only or out of reach.
    """
    settings = settings or PoolSettings()
    digest = _digest(model, dictionary, settings)
    pieces = pieces or TokenPieces(model)
    if not run.has_result(NEGATIVES):
        stages = stages or Silent()
        windows = choose_windows(model, documents, settings)
        with stages.stage("Texts where features do not fire", "windows") as progress:
            pool = read_pool(model, dictionary, windows, settings, progress, executor)
        directions = dictionary.decoder_rows(torch.arange(dictionary.d_sae))
        arrays: dict[str, NDArray[Any]] = {field.name: getattr(pool, field.name) for field in fields(Pool)}
        arrays["partners"] = partners(pool, directions, settings.partners)
        run.write_result(NEGATIVES, {**arrays, "made_from": digest})
    return _opened(run, digest, pieces)


def _opened(run: RunFolder, digest: NDArray[np.uint8], pieces: TokenPieces) -> Negatives:
    found = run.read_result(NEGATIVES)
    try:
        pool = Pool(**{field.name: found[field.name] for field in fields(Pool)})
        same, others = np.array_equal(found["made_from"], digest), found["partners"]
    except KeyError as error:
        raise FormatError(
            f"{run.result_path(NEGATIVES)} does not hold negatives: {error} is missing.",
            hint="Delete the file and run the command again.",
        ) from error
    if not same:
        raise IncompatibleError(
            f"{run.result_path(NEGATIVES)} was made with another model, dictionary, seed or settings.",
            hint="Delete the file, or choose another folder with --run-folder.",
        )
    return Negatives(pool, others, pieces)


def _digest(model: LanguageModel, dictionary: Dictionary, settings: PoolSettings) -> NDArray[np.uint8]:
    """What decides the negatives besides the text, which the run's own fingerprint stands for."""
    identity = {
        "settings": asdict(settings),
        "model": [model.fingerprint, str(model.dtype)],
        "dictionary": [dictionary.origin.fingerprint, str(dictionary.hook_point), dictionary.d_sae],
    }
    text = json.dumps(identity, sort_keys=True).encode()
    return np.frombuffer(hashlib.sha256(text).digest(), dtype=np.uint8)
