"""Where features fire: one pass over text, in bounded memory, that can be stopped and resumed.

For each feature: the strongest contexts, at most one a document; a uniform sample of its firings in each
activation band; how often it fires, mean, variance, maximum and log-histogram of its activations. BOS,
special tokens, padding, and positions whose activation has an outlying norm never count; ``tokens_counted``
is the number of all the others, firing or not, and what a density is out of.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from onesense.engine.executor import Executor, LocalExecutor
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.features.context_accumulator import Arrays
from onesense.features.context_kernel import WindowTable
from onesense.features.context_partials import PartPlace, merge_parts, part_places
from onesense.features.context_pass import ContextPass, ShardPart
from onesense.features.context_reading import median_norms
from onesense.features.context_settings import ContextSettings
from onesense.features.context_shards import limit_tokens, plan_tables
from onesense.features.context_store import STATISTICS, Context, Contexts, all_blocks
from onesense.features.feature_parts import plan_parts
from onesense.model.language_model import LanguageModel
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document
from onesense.text.windows import Window, iter_windows

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary

__all__ = ["Context", "ContextSettings", "Contexts", "collect_contexts", "collect_contexts_together"]

Progress = Callable[[int, int | None], None]
Wanted = tuple["Dictionary", RunFolder]

_DEFAULT_CONTEXT_SIZE = 128
_CALIBRATION_TOKENS = 2_000


def collect_contexts(
    model: LanguageModel,
    dictionary: Dictionary,
    documents: Iterable[Document],
    run: RunFolder,
    *,
    settings: ContextSettings | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Contexts:
    """Run the model over text once and keep what the features of one dictionary do there.

    See ``collect_contexts_together``.
    """
    return collect_contexts_together(
        model, [(dictionary, run)], documents, settings=settings, executor=executor, progress=progress
    )[0]


def collect_contexts_together(
    model: LanguageModel,
    wanted: Sequence[Wanted],
    documents: Iterable[Document],
    *,
    settings: ContextSettings | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[Contexts]:
    """Run the model over text once and keep what the features of all dictionaries do there.

    Call it inside every ``run.lock()``. Parts that a killed call finished are not done again, and the files end in
    the same bytes; where the contexts are finished already, they are opened. What one dictionary gets does not
    depend on the others.

    Args:
        model: The model, in the dtype to compute in.
        wanted: Dictionaries, at the hook points they were trained on, encoded in the model's dtype; and for each
            the run where its parts and results are written.
        documents: The text. Its numbering tells documents apart.
        settings: How much is kept.
        executor: Where the work runs; None: here. Results do not depend on it.
        progress: Told how many tokens are done, and of how many where ``max_tokens`` says so.

    Raises:
        ConfigurationError: The text holds no token, the context does not fit the model, or the dictionaries were
            trained with contexts of several sizes and none is chosen.
        IncompatibleError: A dictionary is for another width, or a folder's contexts were made otherwise.
        HookPointError: The model has no such hook point.
        NumericalError: NaN or infinity among the activations; names the document and position.
        StorageError: The disk is full, read-only or out of reach.
    """
    settings = settings or ContextSettings()
    for dictionary, _ in wanted:
        _check_width(model, dictionary)
    digests = [_digest(model, dictionary, settings) for dictionary, _ in wanted]
    size = _context_size(model, [dictionary for dictionary, _ in wanted], settings)
    missing = [
        (one, digest) for one, digest in zip(wanted, digests, strict=True) if not _is_finished(one[1], digest)
    ]
    if missing:
        windows = limit_tokens(iter_windows(model, documents, context_size=size), settings.max_tokens)
        _collect(model, missing, windows, settings, executor or LocalExecutor(), progress)
    for _, run in wanted:
        run.clear_partials()
    return [Contexts.open(run) for _, run in wanted]


def _collect(
    model: LanguageModel,
    missing: Sequence[tuple[Wanted, Arrays]],
    windows: Iterator[Window],
    settings: ContextSettings,
    executor: Executor,
    progress: Progress | None,
) -> None:
    embedding: Any = model.hf.get_input_embeddings()
    n_ids = int(embedding.weight.shape[0])
    first = list(_until(windows, _CALIBRATION_TOKENS))
    if not first:
        raise ConfigurationError("The text holds no token.", hint="Check the file given as --text.")
    dictionaries = tuple(dictionary for (dictionary, _), _ in missing)
    parts = plan_parts([dictionary.d_sae for dictionary in dictionaries], settings.features_at_once)
    norms = median_norms(model, list({dictionary.hook_point for dictionary in dictionaries}), first)
    work = ContextPass(
        model,
        dictionaries,
        tuple(parts),
        settings,
        {point: settings.outlier_factor * norm for point, norm in norms.items()},
    )
    places = part_places(parts, [run for (_, run), _ in missing], [digest for _, digest in missing])
    tables = plan_tables(chain(first, windows), per_shard=settings.windows_per_shard, n_ids=n_ids)
    counter = _Counter(progress, settings.max_tokens, len(parts))
    n_shards = _run_parts(work, places, tables, executor, counter)
    for index, ((_, run), digest) in enumerate(missing):
        own = [place for place in places if place.part.dictionary == index]
        merge_parts(run, own, settings, n_ids=n_ids, n_shards=n_shards, identity=digest)


class _Counter:
    """Adds up the tokens that are done, by each of the parts."""

    def __init__(self, progress: Progress | None, total: int | None, n_parts: int) -> None:
        self._progress = progress
        self._total = total
        self._n_parts = n_parts
        self._done = 0

    def __call__(self, tokens: int) -> None:
        self._done += tokens
        if self._progress is not None:
            self._progress(self._done // self._n_parts, self._total)


def _run_parts(
    work: ContextPass,
    places: Sequence[PartPlace],
    tables: Iterator[WindowTable],
    executor: Executor,
    counter: _Counter,
) -> int:
    """Do all parts of every shard that are not done yet; the number of shards."""
    begun: deque[tuple[PartPlace, int, int]] = deque()  # what was handed out: place, shard, tokens
    n_shards = 0

    def missing() -> Iterator[ShardPart]:
        nonlocal n_shards
        for shard, table in enumerate(tables):
            n_shards = shard + 1
            for place in places:
                if place.is_done(shard, table):
                    counter(len(table.tokens))
                else:
                    begun.append((place, shard, len(table.tokens)))
                    yield ShardPart(shard, table, place.part)

    work = work.telling(counter if executor.in_process else None)
    for partial in executor.map_shards(work, missing()):
        place, shard, tokens = begun.popleft()
        place.write(shard, partial)
        if not executor.in_process:
            counter(tokens)
        del partial  # its memory is needed by the next part
    return n_shards


def _is_finished(run: RunFolder, digest: Arrays) -> bool:
    if not (run.has_result(STATISTICS) and all_blocks(run)):
        return False
    found = run.read_result(STATISTICS)
    if not all(name in found and np.array_equal(found[name], array) for name, array in digest.items()):
        raise IncompatibleError(
            f"{run.path} holds contexts of another model, dictionary or settings.",
            hint="Choose another folder with --run-folder.",
        )
    return True


def _until(windows: Iterator[Window], tokens: int) -> Iterator[Window]:
    """Windows from the front of a stream, until they hold so many tokens."""
    while tokens > 0 and (window := next(windows, None)) is not None:
        tokens -= len(window.ids)
        yield window


def _context_size(model: LanguageModel, dictionaries: Sequence[Dictionary], settings: ContextSettings) -> int:
    if settings.context_size is not None:
        return settings.context_size
    sizes = {one.origin.context_size or _DEFAULT_CONTEXT_SIZE for one in dictionaries}
    if len(sizes) > 1:
        raise ConfigurationError(
            f"The dictionaries were trained with contexts of {' and '.join(map(str, sorted(sizes)))} tokens.",
            hint="Choose one for all with --context-size, or extract them one by one.",
        )
    return min(*sizes, model.max_context)


def _check_width(model: LanguageModel, dictionary: Dictionary) -> None:
    width = model.resolve(dictionary.hook_point).width
    if width != dictionary.d_in:
        raise IncompatibleError(
            f"The dictionary reads {dictionary.d_in} numbers a token, but `{dictionary.hook_point}` of "
            f"`{model.name}` has {width}.",
            hint="Choose a dictionary that was trained on this model.",
        )


def _digest(model: LanguageModel, dictionary: Dictionary, settings: ContextSettings) -> Arrays:
    """What decides the numbers besides the text, as a tensor to keep beside them."""
    identity = {
        "settings": asdict(settings),
        "model": [model.fingerprint, str(model.dtype)],
        "dictionary": [dictionary.origin.fingerprint, str(dictionary.hook_point), dictionary.d_sae],
    }
    text = json.dumps(identity, sort_keys=True).encode()
    return {"made_from": np.frombuffer(hashlib.sha256(text).digest(), dtype=np.uint8)}
