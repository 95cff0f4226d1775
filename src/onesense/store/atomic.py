"""Files and folders that appear whole or not at all.

Everything is written under a temporary name in the target's own folder, synced, and renamed. A temporary is
locked by its writer for as long as that lives, so a later call can tell the rubbish of a killed process from
the work of a running one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesense.errors import ConfigurationError, FormatError, NotFoundError, NumericalError, OnesenseError
from onesense.store.disk_errors import DISK_ERRNOS, disk_errors, storage_error
from onesense.store.tensor_file import read_tensors, tensor_file_chunks

if TYPE_CHECKING:
    from onesense.store.tensor_file import Tensors

__all__ = [
    "TEMPORARY_SUFFIX",
    "atomic_folder",
    "atomic_path",
    "read_json",
    "read_tensors",
    "remove_leftovers",
    "write_bytes",
    "write_json",
    "write_tensors",
    "write_text",
]

TEMPORARY_SUFFIX = ".onesense-tmp"
_PROBE_BYTES = 1_000_000


@contextmanager
def atomic_path(target: Path | str, *, need: int | None = None) -> Iterator[Path]:
    """Give a temporary path to write to; on leaving without an error it becomes `target`.

    An existing target keeps its mode, a symbolic link is followed, a missing parent folder is created.
    The temporary exists already (empty). It is removed whatever is raised, Ctrl-C included. A device or pipe
    (`/dev/stdout`) cannot be renamed onto and is given as it is.

    Args:
        target: Where the file shall appear.
        need: Bytes that will be written, where known; named when the disk is full.

    Raises:
        StorageError: Disk full, read-only, no permission, name too long, target is a folder.
    """
    target = Path(target)
    with disk_errors(target, need=need):
        final, mode = _prepare_target(target)
    if mode is not None and not stat.S_ISREG(mode):
        yield final
        return
    with disk_errors(target, need=need):
        temporary, guard = _held_temporary(final, _new_file)
    try:
        with _body_errors(target, temporary, need):
            yield temporary
        with disk_errors(target, need=need):
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            _sync(temporary)
            os.replace(temporary, final)
            _sync(final.parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(guard)


@contextmanager
def atomic_folder(target: Path | str) -> Iterator[Path]:
    """Give a temporary folder to fill; on leaving without an error it becomes `target`, all at once.

    Raises:
        ConfigurationError: The target exists already and is not an empty folder.
        StorageError: Disk full, read-only, no permission, name too long.
    """
    target = Path(target)
    final = require_new_folder(target)
    with disk_errors(target):
        temporary, guard = _held_temporary(final, _new_folder)
    try:
        with _body_errors(target, temporary, None):
            yield temporary
        with disk_errors(target):
            _sync_tree(temporary)
            os.rename(temporary, final)
            _sync(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        os.close(guard)


def require_new_folder(target: Path | str) -> Path:
    """Refuse a target that holds something, before the work whose result shall go there.

    Returns:
        The target with links followed; its parent exists.

    Raises:
        ConfigurationError: The target exists already and is not an empty folder.
        StorageError: Read-only, no permission, name too long.
    """
    target = Path(target)
    with disk_errors(target):
        final, mode = _prepare_target(target, folder=True)
        if mode is not None and (not stat.S_ISDIR(mode) or any(final.iterdir())):
            raise ConfigurationError(f"{target} exists already.", hint="Delete it, or choose another folder.")
    return final


def remove_leftovers(folder: Path, *, of: str | None = None) -> list[Path]:
    """Remove the temporaries that killed writers left in `folder`; those of living writers stay.

    Args:
        folder: Where to look; not below it.
        of: Only the temporaries of the target with this name.

    Returns:
        What was removed.
    """
    prefix = "." if of is None else _prefix(of)
    removed = []
    with suppress(OSError):
        for entry in sorted(folder.iterdir()):
            named = entry.name.startswith(prefix) and entry.name.endswith(TEMPORARY_SUFFIX)
            if named and _remove_abandoned(entry):
                removed.append(entry)
    return removed


def write_bytes(target: Path | str, chunks: Iterable[bytes | memoryview], *, need: int | None = None) -> str:
    """Write chunks one after another to `target`, atomically.

    Returns:
        SHA-256 of the file, as 64 hexadecimal digits.
    """
    sha256 = hashlib.sha256()
    with (
        atomic_path(target, need=need) as temporary,
        disk_errors(Path(target), need=need),
        open(temporary, "wb", buffering=0) as file,
    ):
        for chunk in chunks:
            sha256.update(chunk)
            remaining = memoryview(chunk).cast("B") if len(chunk) else memoryview(b"")
            while remaining.nbytes:
                remaining = remaining[os.write(file.fileno(), remaining) :]
    return sha256.hexdigest()


def write_text(target: Path | str, text: str) -> str:
    """Write text as UTF-8, atomically; half of a surrogate pair is written as its escape.

    Returns:
        SHA-256 of the file.
    """
    encoded = text.encode("utf-8", errors="backslashreplace")
    return write_bytes(target, [encoded], need=len(encoded))


def write_json(target: Path | str, value: object, *, sort_keys: bool = True) -> str:
    """Write a value as indented JSON in UTF-8, atomically. Equal values give equal bytes.

    Raises:
        NumericalError: NaN or infinity, which JSON has no word for.

    Returns:
        SHA-256 of the file.
    """
    try:
        text = json.dumps(
            value, sort_keys=sort_keys, allow_nan=False, ensure_ascii=False, indent=2, default=_plain
        )
    except ValueError as error:
        raise NumericalError(f"Cannot write {target}: a value in it is NaN or infinite.") from error
    # backslashreplace turns half a surrogate pair into \udXXX, which is also how JSON spells it
    return write_text(target, text + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON.

    Raises:
        NotFoundError: There is no such file.
        FormatError: Not UTF-8, or not JSON.
        StorageError: The operating system would not let it be read.
    """
    path = Path(path)
    try:
        encoded = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.") from error
    except OSError as error:
        raise storage_error(error, path, action="read") from error
    try:
        return json.loads(encoded.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path} is not valid JSON: {error}.", hint="Delete it and make or download it again."
        ) from error


def write_tensors(target: Path | str, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> str:
    """Write a safetensors file, atomically. Equal tensors give equal bytes, in any process.

    Returns:
        SHA-256 of the file.

    Raises:
        FormatError: A dtype without a code in safetensors.
        StorageError: The file could not be written.
    """
    chunks = tensor_file_chunks(tensors, metadata)
    return write_bytes(target, chunks, need=sum(chunk.nbytes for chunk in chunks))


def _prepare_target(target: Path, *, folder: bool = False) -> tuple[Path, int | None]:
    """Follow links, create the parent, and find the mode of what is there (None where nothing is)."""
    final = Path(os.path.realpath(target))
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = os.lstat(final).st_mode  # a name that is too long fails here, before the work and not after it
    except FileNotFoundError:
        return final, None
    if stat.S_ISDIR(mode) and not folder:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(final))
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(final))
    return final, mode


def _prefix(name: str) -> str:
    # a digest of the name: the name itself may already be as long as the file system allows
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}-"


def _held_temporary(final: Path, create: Callable[[Path], int]) -> tuple[Path, int]:
    """A new, locked temporary beside `final`, and the descriptor that holds the lock."""
    remove_leftovers(final.parent, of=final.name)
    while True:
        temporary = final.parent / f"{_prefix(final.name)}{secrets.token_hex(6)}{TEMPORARY_SUFFIX}"
        guard = create(temporary)
        with suppress(OSError):  # a file system without locks: leftovers are then never taken for abandoned
            fcntl.flock(guard, fcntl.LOCK_EX)
        if os.path.lexists(temporary):
            return temporary, guard
        os.close(guard)  # another process took it for a leftover before it was locked


def _new_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _new_folder(path: Path) -> int:
    os.mkdir(path)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _remove_abandoned(entry: Path) -> bool:
    """Remove a temporary whose writer is gone; the lock is held meanwhile, so no writer can start on it."""
    try:
        probe = os.open(entry, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(probe).st_mode):
            shutil.rmtree(entry)
        else:
            os.unlink(entry)
    except OSError:
        return False
    finally:
        os.close(probe)
    return True


@contextmanager
def _body_errors(target: Path, temporary: Path, need: int | None) -> Iterator[None]:
    """Name the target in errors of the disk; errors of the caller about other files pass unchanged."""
    try:
        yield
    except OSError as error:
        ours = any(str(name or "").startswith(str(temporary)) for name in (error.filename, error.filename2))
        if ours or error.errno in DISK_ERRNOS:
            raise storage_error(error, target, need=need) from error
        raise
    except OnesenseError:
        raise
    except Exception as error:
        # safetensors and torch have errors of their own for a full disk, and their texts change
        fault = _disk_fault(temporary)
        if fault is None:
            raise
        raise storage_error(fault, target, need=need) from error


def _disk_fault(temporary: Path) -> OSError | None:
    """What the disk says to a little more beside what was written; None where it takes it."""
    probe = temporary / "probe" if temporary.is_dir() else temporary
    try:
        with open(probe, "ab", buffering=0) as file:
            rest = _PROBE_BYTES
            while rest > 0:
                rest -= os.write(file.fileno(), bytes(rest))
            os.fsync(file.fileno())
    except OSError as error:
        return error if error.errno in DISK_ERRNOS else None
    return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            if not os.path.islink(os.path.join(root, name)):
                _sync(Path(root, name))
        _sync(Path(root))


def _plain(value: Any) -> Any:
    """What JSON can hold of a path or a NumPy or torch scalar or array."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    for method in ("tolist", "item"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"JSON cannot hold a {type(value).__name__}.")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
