"""The safetensors format: deterministic bytes out, checked arrays in.

A file is 8 bytes of header length, a JSON header, then the tensors back to back
(https://github.com/huggingface/safetensors#format). The safetensors package checks every file that is read;
the header is written here because the package keeps its metadata in an order that changes between processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors

from onesense.errors import FormatError, NotFoundError
from onesense.store.disk_errors import storage_error

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, np.ndarray[Any, Any] | torch.Tensor]

Array = np.ndarray[Any, Any]

# Two marks, so that one flipped bit cannot turn a file of ours into one without a digest.
_DIGEST_KEY = "sha256"
_AUTHOR_KEY = "written_by"
_AUTHOR = "onesense"

_NUMPY_CODES = {
    "bool": "BOOL",
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
_CODES_TO_NUMPY = {code: np.dtype(name) for name, code in _NUMPY_CODES.items()}
_CHUNK_BYTES = 16 * 1024 * 1024
_MAPPED_FROM = 2**28  # bytes


def tensor_file_chunks(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> list[memoryview]:
    """The bytes of a safetensors file, as views on the tensors themselves.

    Equal tensors and metadata give equal bytes in every process: names are sorted, and the metadata holds
    a SHA-256 over everything else.

    Args:
        tensors: Arrays or torch tensors by name, any shape; moved to the CPU where they are not.
        metadata: Strings to keep in the header.

    Raises:
        FormatError: A dtype that safetensors has no code for.
    """
    header: dict[str, Any] = {}
    views: list[memoryview] = []
    offset = 0
    for name in sorted(tensors):
        code, shape, raw = _as_bytes(name, tensors[name])
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, offset + raw.nbytes]}
        views.append(raw.data)
        offset += raw.nbytes
    extra = {**(metadata or {}), _AUTHOR_KEY: _AUTHOR}
    extra[_DIGEST_KEY] = _digest(header, extra, views)
    encoded = _canonical({"__metadata__": extra, **header})
    encoded += b" " * (-len(encoded) % 8)  # tensors start on a multiple of 8, so that they can be mapped
    return [memoryview(len(encoded).to_bytes(8, "little")), memoryview(encoded), *views]


def read_tensors(path: Path | str, *, verify: bool = True, own: bool = False) -> dict[str, Array]:
    """Read every tensor of a safetensors file.

    Args:
        path: The file.
        verify: Check the digest of a file that onesense wrote (one pass over the bytes).
        own: Refuse a file without such a digest.

    Returns:
        Arrays by name, sorted. bfloat16, which NumPy lacks, comes back as float32 (exact).

    Raises:
        NotFoundError: There is no such file.
        FormatError: Truncated, empty, trailing bytes, damaged header, changed bits, or an unknown dtype.
        StorageError: The operating system would not let it be read.
    """
    path = Path(path)
    header, data = _read_checked(path)
    metadata: dict[str, str] = header.pop("__metadata__", {})
    digest = metadata.pop(_DIGEST_KEY, None)
    if own or metadata.get(_AUTHOR_KEY) == _AUTHOR or digest is not None:
        whole = metadata.get(_AUTHOR_KEY) == _AUTHOR and digest is not None
        if not whole or (verify and digest != _digest(header, metadata, _chunks(data))):
            raise _damaged(path, "its content does not match its own SHA-256")
    return {name: _as_array(path, name, header[name], data) for name in sorted(header)}


def read_shapes(path: Path | str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a safetensors file, from its header alone: quick, and the numbers are not checked.

    Raises:
        NotFoundError: There is no such file.
        FormatError: The file is damaged.
        StorageError: The operating system would not let it be read.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="np") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.") from error
    except OSError as error:
        raise storage_error(error, path, action="read") from error
    except Exception as error:  # safetensors' own class, and what its parser lets through, differ by version
        raise _damaged(path, str(error)) from error


def read_metadata(path: Path | str) -> dict[str, str]:
    """The strings in the header of a safetensors file, without the marks that onesense adds.

    Raises:
        NotFoundError: There is no such file.
        FormatError: The file is damaged.
    """
    header, _ = _read_checked(Path(path))
    metadata: dict[str, str] = header.get("__metadata__", {})
    return {key: value for key, value in metadata.items() if key not in (_DIGEST_KEY, _AUTHOR_KEY)}


def _as_bytes(name: str, tensor: Any) -> tuple[str, tuple[int, ...], Array]:
    dtype = str(tensor.dtype.name if hasattr(tensor.dtype, "name") else tensor.dtype).removeprefix("torch.")
    code = "BF16" if dtype == "bfloat16" else _NUMPY_CODES.get(dtype)
    if code is None:
        raise FormatError(f"Tensor {name!r} has dtype {dtype}, which cannot be written to a file.")
    if isinstance(tensor, np.ndarray | np.generic):
        little = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
        raw = little.reshape(-1).view(np.uint8)
    else:
        import torch

        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return code, tuple(tensor.shape), raw


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _digest(header: Mapping[str, Any], metadata: Mapping[str, str], data: Any) -> str:
    sha256 = hashlib.sha256(_canonical({"__metadata__": metadata, **header}))
    for chunk in data:
        sha256.update(chunk)
    return sha256.hexdigest()


def _chunks(data: Array) -> Iterator[memoryview]:
    for start in range(0, data.nbytes, _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES].data


def _read_checked(path: Path) -> tuple[dict[str, Any], Array]:
    """Header and data section of a file that the safetensors package has found sound.

    Those of a large file are a mapping of it: what is never looked at is never read, and what was looked at need not
    stay in memory.
    """
    try:
        large = path.stat().st_size >= _MAPPED_FROM
        # A private mapping: what a caller changes stays in memory.
        raw = (
            np.memmap(path, np.uint8, mode="c").view(np.ndarray)
            if large
            else np.fromfile(path, dtype=np.uint8)
        )
        with safetensors.safe_open(path, framework="np") as opened:
            opened.keys()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.") from error
    except OSError as error:
        raise storage_error(error, path, action="read") from error
    except Exception as error:  # safetensors' own class, and what its parser lets through, differ by version
        raise _damaged(path, str(error)) from error
    try:
        length = int.from_bytes(raw[:8].tobytes(), "little")
        header = json.loads(raw[8 : 8 + length].tobytes(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if header.get("__metadata__", {}) is None:
        del header["__metadata__"]
    return header, raw[8 + length :]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in its header")
    return found


def _as_array(path: Path, name: str, entry: Mapping[str, Any], data: Array) -> Array:
    start, stop = entry["data_offsets"]
    code, shape, raw = entry["dtype"], entry["shape"], data[start:stop]
    if code == "BF16":
        bits = np.frombuffer(raw.tobytes(), dtype="<u2").astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).reshape(shape)
    dtype = _CODES_TO_NUMPY.get(code)
    if dtype is None:
        raise FormatError(f"{path}: tensor {name!r} has dtype {code}, which onesense does not read.")
    values = np.frombuffer(raw, dtype=dtype.newbyteorder("<"))
    return (values if values.flags.aligned else values.copy()).reshape(shape)


def _damaged(path: Path, why: str) -> FormatError:
    return FormatError(
        f"{path} is damaged, or is not a safetensors file: {why}.",
        hint="Delete it and make or download it again.",
    )
