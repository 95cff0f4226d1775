"""Lens statistics against the bare matrix product, the original's loop, and the SAELens notebook's form.

``python -m benchmarks.lens`` measures at GPT-2 size: 24,576 features, d_model 768, 50,257 tokens.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import NamedTuple
from unittest import mock

import scipy.stats
import torch
from torch import Tensor

from benchmarks.memory import in_child, peak_extra_megabytes
from benchmarks.timing import Ratio, Side, interleave, report
from onesense.features.lens import LensDtype, lens_statistics

K = 10
LOOP_SAMPLE = 400
NOTEBOOK_ROWS = 512
DTYPES: tuple[LensDtype, ...] = ("float32", "bfloat16")

FUSED, FUSED_BF16 = "fused float32", "fused bfloat16"
BARE, BARE_BF16 = "bare product float32", "bare product bfloat16"
BLOCKS, BLOCKS_BF16 = "fused float32 without its scan", "fused bfloat16 without its scan"
LOOP, NOTEBOOK = "loop over features", "notebook form"

RATIOS = (
    Ratio("lens_over_bare_product", FUSED, BARE, "at most", 1.2),
    Ratio("lens_over_its_own_product", FUSED, BLOCKS, "at most", 1.2),
    Ratio("loop_over_lens", LOOP, FUSED, "at least", 12),
    Ratio("notebook_over_lens", NOTEBOOK, FUSED, "at least", 2.3),
    Ratio("loop_over_lens_bfloat16", LOOP, FUSED_BF16, "at least", 30),
)


class Size(NamedTuple):
    """Features, width and vocabulary."""

    features: int
    d_model: int
    vocab: int


GPT2 = Size(24_576, 768, 50_257)
QUICK = Size(2_048, 768, 50_257)


def matrices(size: Size) -> tuple[Tensor, Tensor]:
    """Make a decoder of unit rows and an unembedding, at random."""
    generator = torch.Generator().manual_seed(0)
    decoder = torch.randn(size.features, size.d_model, generator=generator)
    decoder /= decoder.norm(dim=1, keepdim=True)
    return decoder, torch.randn(size.d_model, size.vocab, generator=generator)


def bare_product(decoder: Tensor, W_U: Tensor, rows: int = 128) -> None:
    """Make the logits tile by tile in one buffer, as torch does it with its own threads, and look at none."""
    tile = torch.empty(rows, W_U.shape[1], dtype=W_U.dtype)
    for start in range(0, len(decoder), rows):
        part = decoder[start : start + rows]
        torch.mm(part, W_U, out=tile[: len(part)])


def loop(decoder: Tensor, W_U: Tensor) -> None:
    """One feature at a time, as the original project does."""
    for direction in decoder:
        logits = direction @ W_U
        logits.mean().item()
        logits.std().item()
        numbers = logits.numpy()
        scipy.stats.skew(numbers)
        scipy.stats.kurtosis(numbers)
        torch.topk(logits, K)


def notebook_form(decoder: Tensor, W_U: Tensor) -> None:
    """Some hundred features at a time, in whole-tensor operations, as the SAELens notebook does."""
    for start in range(0, len(decoder), NOTEBOOK_ROWS):
        logits = decoder[start : start + NOTEBOOK_ROWS] @ W_U
        standardized = (logits - logits.mean(dim=1, keepdim=True)) / logits.std(dim=1, keepdim=True)
        standardized.pow(3).mean(dim=1)
        standardized.pow(4).mean(dim=1)
        torch.topk(logits, K, dim=1)


def without_scan(decoder: Tensor, W_U: Tensor, dtype: LensDtype) -> None:
    """Everything that the fused form does except looking at the logits."""
    with mock.patch("onesense.features.lens.scan_block", return_value=None):
        lens_statistics(decoder, W_U, k=K, dtype=dtype)


def memory_megabytes(size: Size, dtype: LensDtype) -> float:
    """Measure the memory that the statistics take beyond the two matrices, results included."""
    decoder, W_U = matrices(size)
    lens_statistics(decoder[:2, :8], W_U[:8, :64], k=K, dtype=dtype)  # compiled before the measurement begins
    return peak_extra_megabytes(lambda: lens_statistics(decoder, W_U, k=K, dtype=dtype))


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Measure, print, and return the ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lens", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,048 features, one round")
    parser.add_argument("--rounds", type=int, default=None, help="times that each side runs (default 3)")
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else GPT2
    rounds = options.rounds or (1 if options.quick else 3)

    decoder, W_U = matrices(size)
    half_decoder, half_W_U = decoder.bfloat16(), W_U.bfloat16()
    sample = decoder[: LOOP_SAMPLE // 4 if options.quick else LOOP_SAMPLE]
    batch = decoder[: math.ceil(size.features / 6)]
    sides = [
        Side(BARE, lambda: bare_product(decoder, W_U)),
        Side(FUSED, lambda: lens_statistics(decoder, W_U, k=K)),
        Side(BLOCKS, lambda: without_scan(decoder, W_U, "float32")),
        Side(FUSED_BF16, lambda: lens_statistics(decoder, W_U, k=K, dtype="bfloat16")),
        Side(BLOCKS_BF16, lambda: without_scan(decoder, W_U, "bfloat16")),
        Side(BARE_BF16, lambda: bare_product(half_decoder, half_W_U)),
        Side(NOTEBOOK, lambda: notebook_form(batch, W_U), share=len(batch) / size.features),
        Side(LOOP, lambda: loop(sample, W_U), share=len(sample) / size.features),
    ]
    for dtype in DTYPES:  # on a few features: compiles the kernels and wakes the threads
        lens_statistics(decoder[:64], W_U, k=K, dtype=dtype)
    seconds = interleave(sides, rounds=rounds, warm_up=False)
    megabytes = {f"lens_extra_megabytes_{dtype}": in_child(memory_megabytes, size, dtype) for dtype in DTYPES}
    return report(
        f"Lens statistics: {size.features:,} features x {size.d_model} x {size.vocab:,} tokens, top {K}",
        seconds,
        RATIOS,
        notes=(
            f"The loop is estimated from {len(sample)} features, the notebook form from {len(batch):,}.",
            *(f"{name}: {value:.0f} (wanted: under 300)" for name, value in megabytes.items()),
        ),
        extra=megabytes,
    )


if __name__ == "__main__":
    main()
