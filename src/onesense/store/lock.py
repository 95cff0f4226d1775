"""One writer to a run folder at a time; readers never ask."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onesense.errors import LockedError, StorageError
from onesense.store.disk_errors import disk_errors, storage_error

LOCK_NAME = ".lock"
_NAME_ATTEMPTS = 20
_NAME_PAUSE_S = 0.01


@contextmanager
def exclusive_lock(folder: Path | str) -> Iterator[None]:
    """Be the only writer to `folder` inside the block.

    The operating system drops the lock when its holder dies, `kill -9` included, so a stale one cannot exist.
    Two locks taken in one process exclude each other too.

    Raises:
        LockedError: Another writer holds it; the message names its process id.
        StorageError: The folder cannot be written to, or its file system has no locks.
    """
    path = Path(folder) / LOCK_NAME
    with disk_errors(path, action="lock"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _take(descriptor, path)
        with disk_errors(path, action="lock"):
            _write_holder(descriptor, str(os.getpid()))
        try:
            yield
        finally:
            # emptied, not deleted: two processes could otherwise hold locks on two files of one name
            _write_holder(descriptor, "")
    finally:
        os.close(descriptor)


def lock_holder(folder: Path | str) -> int | None:
    """Id of the process that writes to a folder now; None where none does. Takes no lock."""
    try:
        text = (Path(folder) / LOCK_NAME).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    process = int(text) if text.isdecimal() and len(text) < 10 else 0
    return process if process > 0 and _is_alive(process) else None


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _locked(descriptor, path.parent) from error
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise StorageError(
                f"Cannot lock {path.parent}: its file system does not support locks.",
                hint="Choose a run folder on a local disk.",
            ) from error
        raise storage_error(error, path, action="lock") from error


def _locked(descriptor: int, folder: Path) -> LockedError:
    holder = _living_holder(descriptor)
    who = "another process" if holder is None else f"process {holder}"
    return LockedError(
        f"{folder} is being written to by {who}.",
        hint="Wait until it ends, stop it, or choose another folder with --run-folder.",
    )


def _living_holder(descriptor: int) -> int | None:
    """The process id in the lock file; waits a moment for a holder that has not written it yet."""
    for _ in range(_NAME_ATTEMPTS):
        text = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip()
        if text.isdigit() and _is_alive(int(text)):
            return int(text)
        time.sleep(_NAME_PAUSE_S)
    return None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _write_holder(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode("ascii"), 0)
