"""Notice when a file that a run keeps for itself is no longer what was written: the work is then done again.

Tensor files carry their own digest (``tensor_file``); this is for JSON and for folders that others' code fills.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onesense.errors import FormatError, NotFoundError
from onesense.store.atomic import read_json, write_json
from onesense.store.provenance import file_sha256

SEAL_FILE = "sha256.json"
_KEY = "sha256"


def keep_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object with its digest, atomically.

    Raises:
        NumericalError: NaN or infinity in it.
        StorageError: It cannot be written.
    """
    write_json(path, {**value, _KEY: _digest(value)})


def kept_json(path: Path) -> dict[str, Any] | None:
    """What ``keep_json`` wrote; None where there is nothing, or something else than was written.

    Raises:
        StorageError: The operating system would not let it be read.
    """
    try:
        value = read_json(path)
    except (NotFoundError, FormatError):
        return None
    if not isinstance(value, dict) or value.pop(_KEY, None) != _digest(value):
        return None
    return value


def seal_folder(folder: Path) -> None:
    """Write the digest of each file of a folder into ``sha256.json`` there.

    Raises:
        StorageError: It cannot be written.
    """
    keep_json(folder / SEAL_FILE, digests(folder))


def is_whole(folder: Path) -> bool:
    """Whether each file of a sealed folder is what it was; also where an older onesense did not seal it.

    Raises:
        StorageError: The operating system would not let a file be read.
    """
    return not (folder / SEAL_FILE).exists() or kept_json(folder / SEAL_FILE) == digests(folder)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a folder by its relative path, the seal left out.

    Raises:
        StorageError: The operating system would not let a file be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SEAL_FILE)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()
