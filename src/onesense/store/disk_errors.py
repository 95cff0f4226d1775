"""What the operating system says about files, turned into what a user can do about it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onesense.errors import StorageError

DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO})
"""Errors of a device: whichever file they struck, they are about the disk."""

_EXPLANATIONS = {
    errno.ENOSPC: ("the disk is full", "Free some space there, or choose a folder on another disk."),
    errno.EDQUOT: ("your disk quota is used up", "Delete some of your files, or choose another disk."),
    errno.EROFS: ("the file system is read-only", "Choose a folder that you may write to."),
    errno.EACCES: ("permission denied", "Choose a folder that you may write to, or change its permissions."),
    errno.EPERM: ("permission denied", "Choose a folder that you may write to, or change its permissions."),
    errno.ENAMETOOLONG: ("the name is too long", "Choose a shorter file or folder name."),
    errno.EFBIG: ("the file is too large for this file system", "Choose a folder on another disk."),
    errno.EIO: ("the disk reports a fault", "Check the disk, or choose a folder on another one."),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another path."),
    errno.EEXIST: ("a part of the path is a file, not a folder", "Choose another path."),
    errno.EISDIR: ("it is a folder", "Give the name of a file."),
    errno.ELOOP: ("its symbolic links run in a circle", "Mend the links, or choose another path."),
    errno.ENOENT: ("a folder on the way does not exist", "Create it, or choose another path."),
}


def free_bytes(path: Path) -> int | None:
    """Bytes free on the disk of `path`, or None where that cannot be found out."""
    for folder in (path, *path.parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None


def storage_error(
    error: OSError, path: Path, *, action: str = "write", need: int | None = None
) -> StorageError:
    """Say which file could not be written (or read), why, and what would help.

    Args:
        error: What the operating system raised.
        path: The file or folder as the user knows it, not the temporary beside it.
        action: The verb of the message: "write", "read", "lock".
        need: Bytes that the file needs, where known.
    """
    default = (error.strerror or str(error) or "unknown error", "Choose another path.")
    reason, hint = _EXPLANATIONS.get(error.errno or 0, default)
    message = f"Cannot {action} {path}: {reason}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        facts = []
        if need is not None:
            facts.append(f"it needs {need:,} bytes")
        free = free_bytes(path.parent)
        if free is not None:
            facts.append(f"{free:,} bytes are free")
        if facts:
            message = f"{message[:-1]} ({', '.join(facts)})."
    return StorageError(message, hint=hint)


@contextmanager
def disk_errors(path: Path, *, action: str = "write", need: int | None = None) -> Iterator[None]:
    """Raise :class:`StorageError` about `path` in place of any OSError inside the block."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path, action=action, need=need) from error
    except ValueError as error:
        if "\0" in str(path):  # the operating system never saw it: Python refuses NUL in a path
            raise StorageError(f"Cannot {action} {str(path)!r}: the name holds a NUL.") from error
        raise
