"""Run the command line in forked children: everything is imported once, and a child can be killed."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

MOST_SECONDS = 600.0
_PAUSE_S = 0.005

Prepare = Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: Exit code; minus the signal where one killed it.
        error: What it wrote to standard error.
        seconds: How long it ran.
        hung: Whether it had to be killed for taking too long.
    """

    code: int
    error: str
    seconds: float
    hung: bool = False

    @property
    def crashed(self) -> bool:
        """Whether it left a traceback, or died of something that is no answer."""
        return self.hung or "Traceback (most recent call last)" in self.error or self.code == 1


class Child:
    """A command that runs in a process of its own, forked from this one.

    Args:
        arguments: Of the command line.
        folder: Working folder.
        log: Where its standard error goes.
        prepare: Called in the child before the command.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, log: Path, prepare: Prepare | None = None
    ) -> None:
        self._log = log
        self._began = time.monotonic()
        log.unlink(missing_ok=True)
        sys.stdout.flush()
        self.process = os.fork()
        if self.process == 0:
            _become(arguments, folder, log, prepare)

    def signal_after(self, seconds: float, number: int) -> None:
        """Send a signal at a moment counted from the start, if the child still runs then."""
        self.sleep_until(seconds)
        os.kill(self.process, number)  # nobody has waited for it, so the id is still its own

    def sleep_until(self, seconds: float) -> None:
        """Do nothing until a moment counted from the child's start."""
        while time.monotonic() - self._began < seconds:
            time.sleep(_PAUSE_S)

    def wait(self) -> Ended:
        """Wait until it ends; kill it where it hangs."""
        hung = False
        while True:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                break
            if time.monotonic() - self._began > MOST_SECONDS and not hung:
                hung = True
                os.kill(self.process, signal.SIGKILL)
            time.sleep(_PAUSE_S)
        error = self._log.read_text(errors="replace") if self._log.exists() else ""
        return Ended(os.waitstatus_to_exitcode(status), error, time.monotonic() - self._began, hung)


def call_in_child(work: Callable[[], object]) -> None:
    """Call a function in a child, so that nothing of it stays in this process.

    Raises:
        RuntimeError: It failed; the child has printed why.
    """
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.waitpid(process, 0)[1] != 0:
        raise RuntimeError("A child that prepares the trials failed.")


def _become(arguments: Sequence[str], folder: Path, log: Path, prepare: Prepare | None) -> NoReturn:
    code = 1
    try:
        os.chdir(folder)
        for number, path in ((1, os.devnull), (2, str(log))):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.argv = ["onesense", *arguments]
        from onesense.cli.main import main

        if prepare is not None:
            prepare()
        main()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1 if left.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        # A signal that comes now has come after the command.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.flush()
        os._exit(code)
