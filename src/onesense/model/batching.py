"""The size of a batch found by trying: where the device has no room, half as much at once from then on."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from onesense.errors import DeviceError

Batch = TypeVar("Batch")
Item = TypeVar("Item")
Result = TypeVar("Result")

# What torch says on MPS, of its allocator on a CPU, and of CUDA's libraries, none of it in a class of its own.
_SAID = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "cublas_status_alloc_failed",
)


class SmallerBatchWarning(UserWarning):
    """Batches were too large for the device; smaller ones are run, which takes longer."""


class FittingBatch:
    """Runs batches, and halves them for the rest of the run where the device has no room for one.

    May be used by several threads. Another process begins with the size that is known here.

    Args:
        what: What a batch does, for what the user is told, such as ``Scoring``.
        mend: What else helps where not even one row fits.

    Attributes:
        most: Tokens that are run at once, at most; None until a batch did not fit.
    """

    def __init__(self, what: str, *, mend: str = "Use shorter texts") -> None:
        self.most: int | None = None
        self._what, self._mend = what, mend
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        """A lock stays in its process."""
        return _rebuilt, (self._what, self._mend, self.most)

    def over(
        self,
        items: Sequence[Item],
        work: Callable[[Sequence[Item]], Result],
        *,
        tokens: Callable[[Sequence[Item]], int],
        before_retry: Callable[[], None] | None = None,
    ) -> Iterator[tuple[Sequence[Item], Result]]:
        """Work on rows, at once or part by part in their order.

        Args:
            items: The rows of a batch that was planned.
            work: Runs some of the rows; must change nothing where it fails.
            tokens: Tokens that some rows take, padding included.
            before_retry: Called where rows did not fit, to give up what can be made again.

        Yields:
            Rows that were run together, and what came of it.

        Raises:
            DeviceError: There is no room for one row.
        """

        def parts(some: Sequence[Item], most: int) -> list[Sequence[Item]]:
            return _cut(some, most, tokens)

        yield from self.over_parts(items, work, tokens=tokens, parts=parts, before_retry=before_retry)

    def over_parts(
        self,
        batch: Batch,
        work: Callable[[Batch], Result],
        *,
        tokens: Callable[[Batch], int],
        parts: Callable[[Batch, int], Sequence[Batch]],
        before_retry: Callable[[], None] | None = None,
    ) -> Iterator[tuple[Batch, Result]]:
        """See ``over``; for batches that are no lists of rows.

        Args:
            batch: The batch that was planned.
            work: Runs a batch; must change nothing where it fails.
            tokens: Tokens of a batch.
            parts: A batch as batches of so many tokens at most, or of one row; itself where it is one row.
            before_retry: Called where a batch did not fit.
        """
        waiting = [batch]
        while waiting:
            first = waiting.pop(0)
            size = tokens(first)
            if self.most is not None and size > self.most:
                cut = parts(first, self.most)
                if len(cut) > 1:
                    waiting[:0] = cut
                    continue
            try:
                result = work(first)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                said = str(error).strip().partition("\n")[0][:200]
            else:
                yield first, result
                continue
            # Out of the handler, whose traceback holds on to the tensors of the pass.
            if before_retry is not None:
                before_retry()
            free_cache()
            cut = parts(first, max(size // 2, 1))
            if len(cut) < 2:
                raise self._no_room(size, said)
            self._halve(size)
            waiting[:0] = cut

    def _halve(self, size: int) -> None:
        with self._guard:
            half = max(size // 2, 1)
            if self.most is not None and self.most <= half:
                return  # another thread has found out too
            told, self.most = self.most is not None, half
        if not told:
            warnings.warn(
                f"{self._what}: the device has no memory for {size:,} tokens at once; from here on at most "
                f"{half:,} are run together, or fewer.",
                SmallerBatchWarning,
                stacklevel=4,
            )

    def _no_room(self, size: int, said: str) -> DeviceError:
        return DeviceError(
            f"{self._what}: the device has no memory for {size:,} tokens of a single row"
            + (f" ({said})." if said else "."),
            hint=f"{self._mend}, a narrower number format (--dtype bfloat16), a device with more memory, or "
            "several (--device-map auto).",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no room; torch has a class of its own for CUDA only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


def free_cache() -> None:
    """Give back memory that nothing refers to any more, also what torch keeps for the next tensor."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _cut(items: Sequence[Item], most: int, tokens: Callable[[Sequence[Item]], int]) -> list[Sequence[Item]]:
    """Rows in their order, in lists of so many tokens at most, or of one row."""
    parts: list[Sequence[Item]] = []
    start = 0
    for end in range(1, len(items) + 1):
        if end - start > 1 and tokens(items[start:end]) > most:
            parts.append(items[start : end - 1])
            start = end - 1
    parts.append(items[start:])
    return parts


def _rebuilt(what: str, mend: str, most: int | None) -> FittingBatch:
    batch = FittingBatch(what, mend=mend)
    batch.most = most
    return batch
