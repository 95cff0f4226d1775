"""Read the files that dictionaries come in, none of which may run code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onesense.errors import FormatError, UnsafeFileError
from onesense.store.atomic import read_json, read_tensors
from onesense.store.disk_errors import DISK_ERRNOS, storage_error

_REDO = "Delete the file and download or make it again."


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        NotFoundError: There is no such file.
        FormatError: It is not JSON, or not an object.
    """
    config = read_json(path)
    if not isinstance(config, dict):
        raise FormatError(f"{path} does not hold a JSON object.", hint=_REDO)
    return config


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, by name.

    Raises:
        NotFoundError: There is no such file.
        FormatError: The file is damaged.
    """
    return {name: torch.from_numpy(array) for name, array in read_tensors(path).items()}


def read_torch_file(path: Path) -> dict[str, Tensor]:
    """Tensors of a file that `torch.save` wrote; nothing but tensors and plain containers is ever built.

    Raises:
        UnsafeFileError: Reading it would run code; nothing was run.
        FormatError: The file is damaged, or holds something else than tensors by name.
        StorageError: The operating system would not let it be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, before it refuses them
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _unpickling_error(path, str(error)) from error
    except OSError as error:
        if error.errno in DISK_ERRNOS:
            raise storage_error(error, path, action="read") from error
        raise FormatError(f"{path} could not be read: {error}.", hint=_REDO) from error
    except Exception as error:  # a damaged archive fails in whichever layer first trips over it
        raise FormatError(
            f"{path} is damaged, or torch.save did not write it: {_first_line(error)}", hint=_REDO
        ) from error
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise FormatError(
            f"{path} holds no tensors by name.", hint="Save the dictionary's `state_dict()`, nothing else."
        )
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def read_npz(path: Path) -> dict[str, Tensor]:
    """Tensors of a NumPy archive.

    Raises:
        UnsafeFileError: It holds pickled objects; they were not read.
        FormatError: The file is damaged.
        StorageError: The operating system would not let it be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(np.asarray(archive[name])) for name in archive.files}
    except ValueError as error:
        if "pickle" in str(error):
            raise UnsafeFileError(
                f"{path} holds pickled objects, which could run code; nothing was read.",
                hint="Save plain float arrays: np.savez('params.npz', w_enc=..., w_dec=...).",
            ) from error
        raise FormatError(f"{path} is damaged: {_first_line(error)}", hint=_REDO) from error
    except OSError as error:
        if error.errno in DISK_ERRNOS:
            raise storage_error(error, path, action="read") from error
        raise FormatError(f"{path} is damaged: {_first_line(error)}", hint=_REDO) from error
    except Exception as error:  # zipfile, zlib and numpy each have their own way to fail
        raise FormatError(f"{path} is damaged: {_first_line(error)}", hint=_REDO) from error


def _unpickling_error(path: Path, message: str) -> FormatError:
    is_pickle = zipfile.is_zipfile(path) or path.read_bytes()[:1] == b"\x80"
    refused = any(word in message.lower() for word in ("global", "class", "operand"))
    if not (is_pickle and refused):
        return FormatError(f"{path} is damaged, or torch.save did not write it.", hint=_REDO)
    return UnsafeFileError(
        f"{path} could run code when it is read; it was not read.",
        hint=(
            "If you trust its maker, convert it in the environment that made it: "
            "safetensors.torch.save_file(state_dict, 'ae.safetensors'), and put that file in its place."
        ),
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
