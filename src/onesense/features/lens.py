"""Logit-lens statistics: what each feature of a dictionary promotes and suppresses, and in which shape.

The logits of feature i are ``W_dec[i] @ W_U`` over the whole vocabulary. Their mean, population standard
deviation, skewness and kurtosis, and the tokens at both ends, describe the feature (Bloom & Lin 2024,
"Understanding SAE features with the logit lens"). The logits themselves, features times vocabulary, are never
held: each thread makes a block that fits in its core's cache, looks at it once, and overwrites it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError, NumericalError
from onesense.features.lens_kernel import moments, scan_block

LensDtype = Literal["float32", "bfloat16"]

# 256 features by 1,024 tokens of float32 are 1 MB: half of the cache of one core.
TILE_ROWS = 256
TOKENS_PER_BLOCK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class LensStatistics:
    """Statistics of every feature's logits over the vocabulary.

    Attributes:
        mean: ``[d_sae]`` float64, in logits.
        std: ``[d_sae]`` float64, population standard deviation.
        skewness: ``[d_sae]`` float64, E[z³]; NaN where all logits are equal (a zero decoder row).
        kurtosis: ``[d_sae]`` float64, E[z⁴], not excess: 3 for a normal distribution; NaN as above.
        top_ids: ``[d_sae, k]`` int32, tokens with the largest logits; of equal ones the lower id first.
        top_values: ``[d_sae, k]`` float32, their logits.
        bottom_ids: ``[d_sae, k]`` int32, tokens with the smallest logits, smallest first.
        bottom_values: ``[d_sae, k]`` float32, their logits.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    skewness: NDArray[np.float64]
    kurtosis: NDArray[np.float64]
    top_ids: NDArray[np.int32]
    top_values: NDArray[np.float32]
    bottom_ids: NDArray[np.int32]
    bottom_values: NDArray[np.float32]

    @classmethod
    def empty(cls, n_features: int, k: int) -> LensStatistics:
        """Make room for the statistics of ``n_features`` features, not filled in."""
        return cls(
            mean=np.empty(n_features),
            std=np.empty(n_features),
            skewness=np.empty(n_features),
            kurtosis=np.empty(n_features),
            top_ids=np.empty((n_features, k), dtype=np.int32),
            top_values=np.empty((n_features, k), dtype=np.float32),
            bottom_ids=np.empty((n_features, k), dtype=np.int32),
            bottom_values=np.empty((n_features, k), dtype=np.float32),
        )

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.mean)

    @property
    def k(self) -> int:
        """Tokens kept at each end."""
        return int(self.top_ids.shape[1])

    def to_tensors(self) -> dict[str, NDArray[np.generic]]:
        """Name every array, for a safetensors file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[np.generic] | Tensor]) -> LensStatistics:
        """Build from what :meth:`to_tensors` gave.

        Raises:
            IncompatibleError: An array is missing, or the arrays are of different lengths.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in tensors]
        if missing:
            raise IncompatibleError(
                f"Lens statistics lack {', '.join(missing)}.",
                hint="The file holds something else, or comes from another version: extract again.",
            )
        arrays = {name: np.asarray(tensors[name]) for name in names}
        if len({array.shape[:1] for array in arrays.values()}) != 1:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise IncompatibleError(
                f"Lens statistics do not belong together: {shapes}.", hint="Extract again."
            )
        return cls(**arrays)

    def words(self, feature: int, vocabulary: Sequence[str]) -> list[str]:
        """Spell the tokens that a feature promotes most: ``top_activated_words`` of the original project.

        Args:
            feature: Id of the feature.
            vocabulary: The tokenizer's strings by id.

        Raises:
            NotFoundError: There is no such feature.
            IncompatibleError: The vocabulary is shorter than the one that the statistics were made with.
        """
        if not 0 <= feature < self.n_features:
            raise NotFoundError(
                f"There is no feature {feature}.", hint=f"Features run from 0 to {self.n_features - 1}."
            )
        ids = self.top_ids[feature]
        if self.k and int(ids.max()) >= len(vocabulary):
            raise IncompatibleError(
                f"Feature {feature} promotes token {int(ids.max())}, "
                f"but the vocabulary has {len(vocabulary)} tokens.",
                hint="Use the tokenizer of the model that the statistics were made with.",
            )
        return [vocabulary[token] for token in ids]


class Rows(Protocol):
    """A matrix that gives a few of its rows when it is asked: a tensor, or one that stays on disk."""

    @property
    def shape(self) -> Sequence[int]:
        """Rows and columns."""
        ...

    def __getitem__(self, rows: slice, /) -> Tensor:
        """Some neighbouring rows."""
        ...


def lens_statistics(
    decoder: Rows,
    W_U: Tensor,
    *,
    k: int = 10,
    dtype: LensDtype = "float32",
    tile_rows: int = TILE_ROWS,
    progress: Callable[[int, int], None] | None = None,
) -> LensStatistics:
    """Compute the statistics of ``decoder @ W_U`` row by row, without ever holding it.

    Runs on the CPU, in as many threads as torch is set to use. Memory beyond the results does not depend on
    the number of features; results take ``16 k + 32`` bytes per feature. The result does not depend on the
    number of threads.

    Args:
        decoder: ``W_dec`` ``[d_sae, d_model]``, rows in the model's own units; asked for a few at a time.
        W_U: ``[d_model, vocab]``, see :func:`onesense.model.unembedding.unembedding`.
        k: Tokens kept at each end.
        dtype: Number format of the product. ``bfloat16`` is several times faster where the CPU has matrix
            units for it, and keeps 8 bits of each logit, so that more of them tie.
        tile_rows: Features per unit of work.
        progress: Called with features done and features in all, from the calling thread.

    Raises:
        ConfigurationError: ``k``, ``dtype`` or ``tile_rows`` cannot be used.
        IncompatibleError: The two matrices do not fit together.
        NumericalError: NaN or infinity in the decoder (the feature is named), in ``W_U``, or in the product.
    """
    _check_arguments(decoder, W_U, k=k, dtype=dtype, tile_rows=tile_rows)
    n_features = decoder.shape[0]
    statistics = LensStatistics.empty(n_features, k)
    lens = _Lens.of(W_U, dtype)
    starts = range(0, n_features, tile_rows)

    def work(start: int) -> int:
        stop = min(n_features, start + tile_rows)
        _fill_tile(statistics, decoder[start:stop], lens, start)
        return stop

    with _single_threaded_workers(torch.get_num_threads()) as workers:
        for done in workers.map(work, starts):
            if progress is not None:
                progress(done, n_features)
    return statistics


class _Lens(NamedTuple):
    """The unembedding as the threads read it."""

    matrix: Tensor  # [d_model, vocab], in the format of the product
    mean: Tensor  # [d_model] float64, over the vocabulary
    spread: float  # root mean square of the entries about their row's mean, roughly

    @classmethod
    def of(cls, W_U: Tensor, dtype: LensDtype) -> _Lens:
        W_U = W_U.detach().to("cpu", torch.float32)
        mean = W_U.mean(dim=1).double()
        square = torch.linalg.vector_norm(W_U, dim=1).double().square() / W_U.shape[1]
        variance = torch.maximum(
            square - mean.square(), 1e-4 * square
        )  # the difference of two near equals is noise
        spread = float(variance.mean().sqrt()) if W_U.shape[0] else 0.0
        if not math.isfinite(spread):
            damaged = torch.nonzero(~torch.isfinite(W_U).all(dim=0))
            where = (
                f"NaN or infinity at token {int(damaged[0])}" if len(damaged) else "numbers beyond float32"
            )
            raise NumericalError(
                f"The unembedding holds {where}.", hint="The model's weights are damaged: load them again."
            )
        return cls(W_U.to(getattr(torch, dtype)), mean, spread)


def _fill_tile(statistics: LensStatistics, decoder: Tensor, lens: _Lens, start: int) -> None:
    """Compute the statistics of a few features, ``decoder`` ``[rows, d_model]``, into their place."""
    decoder = decoder.detach().to("cpu", torch.float64)
    _check_finite(
        decoder.isfinite().all(dim=1), start, "The decoder row of feature {} holds NaN or infinity."
    )
    rows, n_tokens = decoder.shape[0], lens.matrix.shape[1]
    place = slice(start, start + rows)
    top_values, bottom_values = statistics.top_values[place], statistics.bottom_values[place]
    top_values.fill(-np.inf)
    bottom_values.fill(-np.inf)
    scale, offset = _standardization(decoder, lens)
    sums = np.zeros((rows, 4))
    directions = decoder.to(lens.matrix.dtype)
    buffer = torch.empty(rows * min(n_tokens, TOKENS_PER_BLOCK), dtype=lens.matrix.dtype)
    for first in range(0, n_tokens, TOKENS_PER_BLOCK):
        columns = lens.matrix[:, first : first + TOKENS_PER_BLOCK]
        block = buffer[: rows * columns.shape[1]].view(rows, -1)
        torch.mm(directions, columns, out=block)
        scan_block(
            (block if block.dtype == torch.float32 else block.view(torch.uint16)).numpy(),
            first,
            scale=scale,
            offset=offset,
            sums=sums,
            top_values=top_values,
            top_ids=statistics.top_ids[place],
            negated_bottom_values=bottom_values,
            bottom_ids=statistics.bottom_ids[place],
        )
    np.negative(bottom_values, out=bottom_values)
    finite = torch.from_numpy(np.isfinite(sums).all(axis=1))
    _check_finite(finite, start, "The logits of feature {} are too large for the number format.")
    shape = np.stack(moments(sums, scale, offset, n_tokens))
    constant = top_values[:, 0] == bottom_values[:, 0]
    shape[:, constant] = np.array([[0.0], [0.0], [np.nan], [np.nan]])
    shape[0, constant] = top_values[constant, 0]
    statistics.mean[place], statistics.std[place] = shape[0], shape[1]
    statistics.skewness[place], statistics.kurtosis[place] = shape[2], shape[3]


def _standardization(decoder: Tensor, lens: _Lens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bring every row's logits near mean 0 and spread 1, so that float32 holds their fourth powers well."""
    mean = decoder @ lens.mean
    # Where the logits are all but equal, what is left is rounding: it must not be blown up.
    spread = torch.maximum(decoder.norm(dim=1) * lens.spread, 1e-6 * mean.abs())
    scale = torch.where(spread > 0, 1 / spread, 1.0).clamp(max=1e30).float()
    offset = mean * scale
    return scale.numpy(), offset.float().numpy()


def _check_arguments(decoder: Rows, W_U: Tensor, *, k: int, dtype: str, tile_rows: int) -> None:
    if len(decoder.shape) != 2 or W_U.ndim != 2 or decoder.shape[1] != W_U.shape[0]:
        raise IncompatibleError(
            f"A decoder {list(decoder.shape)} does not fit an unembedding {list(W_U.shape)}.",
            hint="The dictionary was made for another model: [d_sae, d_model] must meet [d_model, vocab].",
        )
    if not 1 <= k <= W_U.shape[1]:
        raise ConfigurationError(
            f"{k} tokens at each end cannot be kept of a vocabulary of {W_U.shape[1]}.",
            hint=f"Choose between 1 and {W_U.shape[1]}.",
        )
    if dtype not in get_args(LensDtype):
        raise ConfigurationError(
            f"The lens cannot be computed in `{dtype}`.", hint="Use float32 or bfloat16."
        )
    if tile_rows < 1:
        raise ConfigurationError(f"A tile of {tile_rows} features holds nothing.", hint="Choose 1 or more.")


def _check_finite(finite: Tensor, start: int, message: str) -> None:
    if not bool(finite.all()):
        feature = start + int(torch.nonzero(~finite)[0, 0])
        raise NumericalError(
            message.format(feature), hint="The dictionary's weights are damaged, or in other units."
        )


_starting_workers = threading.Lock()


@contextmanager
def _single_threaded_workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Start threads whose matrix products run in the calling thread alone.

    Product and scan of a block then happen on one core, in its own cache. With torch's own threads the scan
    would wait for a barrier after each product and share the cores with threads that spin there.
    """
    started, go_on = threading.Semaphore(0), threading.Event()

    def start() -> None:
        torch.get_num_threads()  # takes over the default first; what is set before that is lost
        torch.set_num_threads(1)  # for this thread, and as the default of threads still to come
        started.release()
        go_on.wait()

    workers = ThreadPoolExecutor(count, thread_name_prefix="lens", initializer=start)
    try:
        with _starting_workers:
            default = torch.get_num_threads()
            try:
                for _ in range(count):  # no thread is idle before all have started: each of these starts one
                    workers.submit(int)
                for _ in range(count):
                    started.acquire()
            finally:
                torch.set_num_threads(default)
        go_on.set()
        yield workers
    finally:
        go_on.set()
        workers.shutdown(cancel_futures=True)
