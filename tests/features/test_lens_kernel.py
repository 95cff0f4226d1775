from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onesense.features import lens_kernel
from onesense.features.lens_kernel import SEGMENT, moments, scan_block


def scan(
    logits: NDArray[Any], k: int, widths: list[int], *, scale: float = 1.0, offset: float = 0.0
) -> dict[str, NDArray[Any]]:
    """Scan whole rows as consecutive blocks of the given widths (the last takes what is left)."""
    rows, tokens = logits.shape
    state: dict[str, NDArray[Any]] = {
        "scale": np.full(rows, scale, dtype=np.float32),
        "offset": np.full(rows, offset, dtype=np.float32),
        "sums": np.zeros((rows, 4)),
        "top_values": np.full((rows, k), -np.inf, dtype=np.float32),
        "top_ids": np.zeros((rows, k), dtype=np.int32),
        "negated_bottom_values": np.full((rows, k), -np.inf, dtype=np.float32),
        "bottom_ids": np.zeros((rows, k), dtype=np.int32),
    }
    first = 0
    for width in [*widths, tokens]:
        last = min(tokens, first + width)
        if last > first:
            scan_block(np.ascontiguousarray(logits[:, first:last]), first, **state)
        first = last
    return state


def largest(row: NDArray[Any], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The k largest by exhaustive stable sort: equal values keep the order of their ids."""
    ids = np.argsort(-row, kind="stable")[:k]
    return ids, row[ids]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    distinct=st.integers(1, 6),
    tokens=st.integers(1, 3 * SEGMENT),
    k=st.integers(1, 20),
    widths=st.lists(st.integers(1, 2 * SEGMENT), max_size=4),
)
def test_top_and_bottom_equal_an_exhaustive_stable_sort(
    seed: int, distinct: int, tokens: int, k: int, widths: list[int]
) -> None:
    random = np.random.default_rng(seed)
    logits = random.choice(random.normal(size=distinct), size=(2, tokens)).astype(np.float32)
    k = min(k, tokens)
    state = scan(logits, k, widths)
    for row, values, ids, negated, bottom in zip(
        logits,
        state["top_values"],
        state["top_ids"],
        state["negated_bottom_values"],
        state["bottom_ids"],
        strict=True,
    ):
        expected_ids, expected = largest(row, k)
        assert (ids == expected_ids).all()
        assert (values == expected).all()
        expected_ids, expected = largest(-row, k)
        assert (bottom == expected_ids).all()
        assert (negated == expected).all()


@pytest.mark.parametrize("order", ["ascending", "descending", "equal"])
def test_top_of_rows_in_the_worst_order(order: str) -> None:
    row = np.zeros(1000) if order == "equal" else np.arange(1000.0)
    logits = (row[::-1] if order == "descending" else row).astype(np.float32)[None, :].copy()
    state = scan(logits, 7, [300])
    assert (state["top_ids"][0] == largest(logits[0], 7)[0]).all()
    assert (state["bottom_ids"][0] == largest(-logits[0], 7)[0]).all()


@pytest.mark.parametrize("center", [0.0, 5.0, -300.0])
@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e4])
def test_moments_equal_scipy_in_float64(center: float, spread: float) -> None:
    random = np.random.default_rng(0)
    logits = (spread * (center + random.gamma(2.0, size=(3, 5000)))).astype(np.float32)
    scale = 1 / spread
    state = scan(logits, 1, [700, 1024, 13], scale=scale, offset=center + 1)
    mean, std, skewness, kurtosis = moments(state["sums"], state["scale"], state["offset"], 5000)
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(1), rtol=1e-6)
    np.testing.assert_allclose(std, exact.std(1), rtol=1e-5)
    np.testing.assert_allclose(skewness, scipy.stats.skew(exact, axis=1), rtol=1e-5)
    np.testing.assert_allclose(kurtosis, scipy.stats.kurtosis(exact, axis=1, fisher=False), rtol=1e-5)


def test_bits_of_bfloat16_are_read_as_their_numbers() -> None:
    numbers = torch.randn(2, 700, generator=torch.Generator().manual_seed(0)).bfloat16()
    half = scan(numbers.view(torch.uint16).numpy(), 10, [300])
    full = scan(numbers.float().numpy(), 10, [300])
    for name in ("top_values", "top_ids", "negated_bottom_values", "bottom_ids"):
        assert (half[name] == full[name]).all()
    np.testing.assert_allclose(half["sums"], full["sums"], rtol=1e-5, atol=1e-3)


def test_infinite_logits_are_not_hidden_by_the_sums() -> None:
    logits = np.zeros((1, 600), dtype=np.float32)
    logits[0, 599] = np.inf
    assert not np.isfinite(scan(logits, 1, [])["sums"]).all()


def test_failure_to_store_machine_code_does_not_fail_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba has the kernel in memory before it writes it to disk; a full disk fails the first call only."""
    compiled = lens_kernel._scan_block
    calls = []

    def fail_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return compiled(*arguments)

    monkeypatch.setattr(lens_kernel, "_scan_block", fail_once)
    state = scan(np.arange(10, dtype=np.float32)[None, :], 2, [])
    assert len(calls) == 2
    assert state["top_ids"].tolist() == [[9, 8]]
    assert state["sums"][0, 0] == 45


def test_kernel_compiles_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """A read-only install with a read-only home: files stand where the folders of both caches would be."""
    source = Path(lens_kernel.__file__).read_text(encoding="utf-8")
    module = tmp_path / "kernel_copy.py"
    module.write_text(source, encoding="utf-8")
    (tmp_path / "__pycache__").write_text("in the way")
    blocker = tmp_path / "home"
    blocker.write_text("not a folder")
    environment = {**os.environ, "HOME": str(blocker), "XDG_CACHE_HOME": str(blocker), "NUMBA_CACHE_DIR": ""}
    script = (
        "import numpy as np, kernel_copy as k\n"
        "assert not k._scan_block._cache.__class__.__name__.startswith('FunctionCache')\n"
        "v, i = np.full((1, 1), -np.inf, np.float32), np.zeros((1, 1), np.int32)\n"
        "one = np.ones(1, np.float32)\n"
        "k.scan_block(np.array([[1, 3, 2]], np.float32), 0, scale=one, offset=one, sums=np.zeros((1, 4)),"
        " top_values=v, top_ids=i, negated_bottom_values=v.copy(), bottom_ids=i.copy())\n"
        "print(v[0, 0], i[0, 0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["3.0", "1"], done.stderr
