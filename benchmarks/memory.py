"""How much memory a piece of work takes beyond what was there before, measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATM = Path("/proc/self/statm")


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of a module in a fresh process, and return what it returns."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_extra_megabytes(run: Callable[[], object]) -> float:
    """Run, and return the largest growth of this process's resident memory meanwhile, in 10^6 bytes.

    Linux only. Memory is looked at every two milliseconds. Call it in a fresh process (:func:`in_child`):
    memory that was freed before but is still held by the allocator would hide growth.
    """
    before = _resident_bytes()
    peak = before
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, _resident_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        run()
        peak = max(peak, _resident_bytes())
    finally:
        done.set()
        watcher.join()
    return (peak - before) / 1e6


def peak_megabytes() -> float:
    """The largest resident memory that this process ever had, in 10^6 bytes.

    Linux only. ``getrusage`` would also count what the parent held when it forked.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024 / 1e6


def resident_megabytes() -> float:
    """Resident memory of this process now, in 10^6 bytes. Linux only."""
    return _resident_bytes() / 1e6


def _resident_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
