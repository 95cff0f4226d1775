"""Count the calls of a process that change files, and do something at one of them.

A call is one of the operating system's that Python code makes, or a statement of SQLite. Nothing in onesense
knows of this: the functions are replaced in a forked child.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from typing import Any

_WATCHED = ("open", "write", "fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "ftruncate")
_FAILING = ("open", "write", "fsync", "replace", "rename", "mkdir")


def act_at(number: int, action: Callable[[], None]) -> None:
    """Call `action` right before the call with this number, counted from 1."""

    def count(so_far: int, _name: str) -> None:
        if so_far == number:
            action()

    _watch(count)


def fail_from(number: int, code: int) -> None:
    """Let every call from this number on fail with an error of the operating system, where it can."""

    def count(so_far: int, name: str) -> None:
        if so_far >= number and name in _FAILING:
            raise OSError(code, os.strerror(code))

    _watch(count)


def tell_count(path: str) -> None:
    """Keep the number of calls so far in a file."""
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    _watch(lambda so_far, _name: os.pwrite(target, b"%d" % so_far, 0))


def _watch(count: Callable[[int, str], object]) -> None:
    so_far = 0

    def tell(name: str) -> None:
        nonlocal so_far
        so_far += 1
        count(so_far, name)

    for name in _WATCHED:
        setattr(os, name, _watched(name, getattr(os, name), tell))
    connect = sqlite3.connect

    def traced(*arguments: Any, **keywords: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **keywords)
        connection.set_trace_callback(lambda _statement: tell("sql"))
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]


def _watched(name: str, original: Callable[..., Any], tell: Callable[[str], None]) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        changes = name != "open" or (len(arguments) > 1 and arguments[1] & (os.O_CREAT | os.O_WRONLY))
        if changes:
            tell(name)
        return original(*arguments, **keywords)

    return call
