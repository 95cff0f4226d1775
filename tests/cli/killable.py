"""The command line in a process that can be killed, without waiting for imports each time."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_PRELOADED = [
    "onesense.cli.main",
    "onesense.cli.interpret",
    "onesense.explain.queue",
    "onesense.explain.source",
]


def start(arguments: Sequence[object], *, err: Path) -> BaseProcess:
    """Start ``onesense`` with these arguments, in this environment and folder.

    Args:
        arguments: Of the command line.
        err: Where its standard error goes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    given = ([str(one) for one in arguments], dict(os.environ), os.getcwd(), str(err))
    process = context.Process(target=_run, args=given, daemon=True)
    process.start()
    return process


def _run(arguments: list[str], environment: Mapping[str, str], folder: str, err: str) -> None:
    # The server that processes are forked from was started with those of an earlier test.
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, path in ((1, os.devnull), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
    sys.argv = ["onesense", *arguments]
    from onesense.cli.main import main

    main()
