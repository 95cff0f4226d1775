"""Compile a function with numba, and keep the machine code on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled_with(**options: Any) -> Callable[[Function], Function]:
    """Compile a function on its first call for each combination of argument types, free of the interpreter lock.

    The machine code is cached beside the module, or in the user's cache folder. Where neither can be written
    (a read-only install with a read-only home) it is compiled anew in each process.

    Args:
        **options: Of ``numba.njit``, such as ``fastmath``.

    Returns:
        A decorator for functions in numba's nopython subset. What they call, and the constants they use, must
        live in the same file: numba renews its cache by the date of the caller's file alone.
    """

    def decorate(function: Function) -> Function:
        try:
            machine: Function = numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # numba: "no locator available", no folder for the cache can be written
            machine = numba.njit(nogil=True, **options)(function)
        return machine

    return decorate


def compiled(function: Function) -> Function:
    """``compiled_with`` without options."""
    return compiled_with()(function)
