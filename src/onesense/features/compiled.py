"""Compile a function with numba, and keep the machine code on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile ``function`` on its first call for each combination of argument types.

    The machine code is cached beside the module, or in the user's cache folder. Where neither can be written
    (a read-only install with a read-only home) it is compiled anew in each process.

    Args:
        function: A function in numba's nopython subset. What it calls, and the constants it uses, must live
            in the same file: numba renews its cache by the date of the caller's file alone.
    """
    try:
        machine: Function = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba: "no locator available", no folder for the cache can be written
        machine = numba.njit(nogil=True)(function)
    return machine
