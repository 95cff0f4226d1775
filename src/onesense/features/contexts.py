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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from onesense.engine.executor import Executor, LocalExecutor
from onesense.errors import ConfigurationError, FormatError, IncompatibleError
from onesense.features.context_accumulator import Arrays, ContextAccumulator, ContextShape, token_dtype
from onesense.features.context_kernel import WindowTable
from onesense.features.context_pass import ContextPass, median_norm
from onesense.features.context_shards import limit_tokens, plan_tables
from onesense.features.context_store import STATISTICS, Context, Contexts, all_blocks, write_contexts
from onesense.model.language_model import LanguageModel
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document
from onesense.text.windows import Window, iter_windows

if TYPE_CHECKING:
    from onesense.sae.dictionary import Dictionary

__all__ = ["Context", "ContextSettings", "Contexts", "collect_contexts"]

Progress = Callable[[int, int | None], None]

_DEFAULT_CONTEXT_SIZE = 128
_CALIBRATION_TOKENS = 2_000
_LARGEST_WIDTH = 2**15


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How the pass is made and how much of it is kept.

    Attributes:
        context_size: Tokens that the model sees at once, BOS included; None: what the dictionary was trained
            with, else 128, at most what the model can do.
        batch_tokens: Tokens that go through the model together, padding included.
        top_k: Strongest contexts a feature.
        bands: Activation bands a feature, each an octave, the last for all the rest.
        per_band: Contexts sampled a band.
        width: Tokens of a context; three quarters of them before the peak where the text allows.
        max_tokens: Stop after so many tokens; None: read all the text.
        seed: Seed of the sample.
        outlier_factor: Positions whose norm is more than so many times the median do not count; the median is
            that of the first 2,000 tokens, so that it depends on neither batches nor shards.
        windows_per_shard: Windows in a unit of resume.
    """

    context_size: int | None = None
    batch_tokens: int = 4096
    top_k: int = 20
    bands: int = 6
    per_band: int = 8
    width: int = 32
    max_tokens: int | None = None
    seed: int = 0
    outlier_factor: float = 5.0
    windows_per_shard: int = 1024

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigurationError: A value is out of its range.
        """
        least = {"batch_tokens": 1, "top_k": 1, "bands": 2, "per_band": 1, "width": 1, "windows_per_shard": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ConfigurationError(
                    f"`{name}` must be at least {smallest}.", hint="Give a larger number."
                )
        if self.width > _LARGEST_WIDTH:
            raise ConfigurationError(
                f"`width` must be at most {_LARGEST_WIDTH}.", hint="Give a smaller number."
            )
        if not 0 <= self.seed < 2**64:
            raise ConfigurationError("`seed` must be from 0 to 2^64 - 1.", hint="Give a smaller number.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigurationError(
                "`max_tokens` must be at least 1.", hint="Leave it out to read all the text."
            )
        if not self.outlier_factor > 1:
            raise ConfigurationError("`outlier_factor` must be above 1.", hint="The usual value is 5.")


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
    """Run the model over text once and keep what its features do there.

    Call it inside ``run.lock()``. Shards that a killed call finished are not done again, and the files end in
    the same bytes; where the contexts are finished already, they are opened.

    Args:
        model: The model, in the dtype to compute in.
        dictionary: The features, at the hook point they were trained on; encoded in the model's dtype.
        documents: The text. Its numbering tells documents apart.
        run: Where shards and results are written.
        settings: How much is kept.
        executor: Where the work runs; None: here. Results do not depend on it.
        progress: Told how many tokens are done, and of how many where ``max_tokens`` says so.

    Raises:
        ConfigurationError: The text holds no token, or the context does not fit the model.
        IncompatibleError: The dictionary is for another width, or the folder's contexts were made otherwise.
        HookPointError: The model has no such hook point.
        NumericalError: NaN or infinity among the activations; names the document and position.
        StorageError: The disk is full, read-only or out of reach.
    """
    settings = settings or ContextSettings()
    _check_width(model, dictionary)
    digest = _digest(model, dictionary, settings)
    if run.has_result(STATISTICS) and all_blocks(run):
        return _finished(run, digest)
    embedding: Any = model.hf.get_input_embeddings()
    n_ids = int(embedding.weight.shape[0])
    size = _context_size(model, dictionary, settings)
    windows = limit_tokens(iter_windows(model, documents, context_size=size), settings.max_tokens)
    first = list(_until(windows, _CALIBRATION_TOKENS))
    if not first:
        raise ConfigurationError("The text holds no token.", hint="Check the file given as --text.")
    shape = ContextShape(
        dictionary.d_sae, settings.top_k, settings.bands, settings.per_band, settings.width, settings.seed
    )
    work = ContextPass(
        model,
        dictionary.to(device=model.device, dtype=model.dtype),
        shape,
        most_norm=settings.outlier_factor * median_norm(model, dictionary.hook_point, first),
        batch_tokens=settings.batch_tokens,
    )
    tables = plan_tables(chain(first, windows), per_shard=settings.windows_per_shard, n_ids=n_ids)
    counter = _Counter(progress, settings.max_tokens)
    n_shards = _run_shards(work, tables, run, digest, executor or LocalExecutor(), counter)
    _merge(run, shape, n_ids, n_shards, digest)
    run.clear_partials()
    return Contexts.open(run)


class _Counter:
    """Adds up the tokens that are done."""

    def __init__(self, progress: Progress | None, total: int | None) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def __call__(self, tokens: int) -> None:
        self._done += tokens
        if self._progress is not None:
            self._progress(self._done, self._total)


def _run_shards(
    work: ContextPass,
    tables: Iterator[WindowTable],
    run: RunFolder,
    digest: Arrays,
    executor: Executor,
    counter: _Counter,
) -> int:
    """Do every shard that is not done yet; the number of shards."""
    begun: deque[tuple[int, int]] = deque()  # shards that were handed out, with their tokens
    n_shards = 0

    def missing() -> Iterator[WindowTable]:
        nonlocal n_shards
        for index, table in enumerate(tables):
            n_shards = index + 1
            if _is_done(run, index, table, digest):
                counter(len(table.tokens))
            else:
                begun.append((index, len(table.tokens)))
                yield table

    work = work.telling(counter if executor.in_process else None)
    for partial in executor.map_shards(work, missing()):
        index, tokens = begun.popleft()
        run.write_shard(index, {**partial, **digest})
        if not executor.in_process:
            counter(tokens)
        del partial  # its memory is needed by the next shard
    return n_shards


def _is_done(run: RunFolder, index: int, table: WindowTable, digest: Arrays) -> bool:
    """Whether a shard was finished by a call with the same settings, on the same text."""
    partial = run.read_shard(index)
    expected = {f"window_{name}": array for name, array in table._asdict().items()} | digest
    return partial is not None and all(
        name in partial and np.array_equal(partial[name], array) for name, array in expected.items()
    )


def _merge(run: RunFolder, shape: ContextShape, n_ids: int, n_shards: int, digest: Arrays) -> None:
    """Merge the shards in their order and write the results."""
    whole = ContextAccumulator(shape, token_dtype(n_ids))
    for index in range(n_shards):
        partial = run.read_shard(index)
        if partial is None:
            raise FormatError(
                f"Shard {index} of {run.path} was damaged while the run went on.",
                hint="Run the same command again: only that shard is done anew.",
            )
        whole.absorb(partial)
        del partial
    write_contexts(run, whole, digest)


def _finished(run: RunFolder, digest: Arrays) -> Contexts:
    found = run.read_result(STATISTICS)
    if not all(name in found and np.array_equal(found[name], array) for name, array in digest.items()):
        raise IncompatibleError(
            f"{run.path} holds contexts of another model, dictionary or settings.",
            hint="Choose another folder with --run-folder.",
        )
    run.clear_partials()
    return Contexts.open(run)


def _until(windows: Iterator[Window], tokens: int) -> Iterator[Window]:
    """Windows from the front of a stream, until they hold so many tokens."""
    while tokens > 0 and (window := next(windows, None)) is not None:
        tokens -= len(window.ids)
        yield window


def _context_size(model: LanguageModel, dictionary: Dictionary, settings: ContextSettings) -> int:
    if settings.context_size is not None:
        return settings.context_size
    return min(dictionary.origin.context_size or _DEFAULT_CONTEXT_SIZE, model.max_context)


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
