"""A place that every machine reaches: a folder on a shared disk, or any URL that fsspec knows."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from onesense.errors import ConfigurationError, FormatError, StorageError

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written.

    Attributes:
        name: Its name in the storage.
        sha256: Of its bytes.
        size: In bytes.
    """

    name: str
    sha256: str
    size: int


class SharedStorage:
    """Arrays by name. A name is written once whole or not at all; who writes it again writes the same.

    Args:
        url: A folder, or a URL such as ``s3://bucket/folder``.

    Raises:
        ConfigurationError: No such kind of URL, or what it needs is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"`{url}` is no place to store anything: {error}.",
                hint="Give a folder that every machine has, or a URL such as s3://bucket/folder.",
            ) from error

    def __reduce__(self) -> tuple[type[SharedStorage], tuple[str]]:
        return SharedStorage, (self.url,)

    def put(self, name: str, arrays: Arrays) -> Stored:
        """Write arrays.

        Raises:
            StorageError: It cannot be written.
        """
        content = save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
        stored = Stored(name, hashlib.sha256(content).hexdigest(), len(content))
        path = f"{self._root}/{name}.safetensors"
        begun = f"{path}.{uuid.uuid4().hex}"
        try:
            self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._files.pipe_file(begun, content)
            self._files.mv(begun, path)
        except Exception as error:
            # Each file system raises what it likes.
            raise StorageError(
                f"{self.url} cannot be written to: {_first_line(error)}",
                hint="Every machine must reach it and may write to it; check the address, the space, the keys.",
            ) from error
        return stored

    def clear(self, folder: str) -> None:
        """Take away all that was put below a name; what is not there, or cannot be, is left."""
        with suppress(Exception):  # each file system raises what it likes, and the work is done
            self._files.rm(f"{self._root}/{folder}", recursive=True)

    def get(self, stored: Stored) -> dict[str, NDArray[Any]]:
        """Read arrays and take them away.

        Raises:
            StorageError: They are not there.
            FormatError: They are not what was written.
        """
        path = f"{self._root}/{stored.name}.safetensors"
        try:
            content = self._files.cat_file(path)
        except Exception as error:
            raise StorageError(
                f"{stored.name} cannot be read from {self.url}: {_first_line(error)}",
                hint="Every machine must reach the same place under this address.",
            ) from error
        if len(content) != stored.size or hashlib.sha256(content).hexdigest() != stored.sha256:
            raise FormatError(
                f"{stored.name} in {self.url} is not what was written.",
                hint="Run the same command again; if it stays, check the disk.",
            )
        try:
            arrays: dict[str, NDArray[Any]] = load(content)
        except SafetensorError as error:
            raise FormatError(f"{stored.name} in {self.url} is damaged.", hint="Run it again.") from error
        self._files.rm_file(path)
        return arrays


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
