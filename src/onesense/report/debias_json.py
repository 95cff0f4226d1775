"""What a run of debias said, as JSON, written and read back."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

from onesense.bias.results import AuditResult
from onesense.debias.results import DebiasResult
from onesense.errors import FormatError, IncompatibleError
from onesense.report.audit_json import _decoded as _audit_decoded
from onesense.report.audit_json import _FieldError, _plain, _short
from onesense.store.atomic import read_json, write_json

SCHEMA_VERSION = 1

_HINT = "It should be the debias.json that `onesense debias` wrote; run it again if the file is damaged."


def write_result(result: DebiasResult, path: Path | str) -> str:
    """Write a result as JSON, atomically. NaN and infinity, which JSON has no word for, become null.

    Returns:
        SHA-256 of the file.

    Raises:
        StorageError: The file could not be written.
    """
    document = {"schema_version": SCHEMA_VERSION, **_plain(dataclasses.asdict(result))}
    return write_json(
        path, document, sort_keys=False
    )  # the order of dictionaries and settings says something


def read_result(path: Path | str) -> DebiasResult:
    """Read a result that ``write_result`` wrote; null becomes NaN where a number must be.

    Settings come back as JSON holds them: a tuple among them as a list.

    Raises:
        NotFoundError: There is no such file.
        FormatError: Not JSON, or a field is missing, unknown or of the wrong kind; the message names it.
        IncompatibleError: It was written by a version of onesense with another schema.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise FormatError(f"{path} is not a result of debias: it should hold an object.", hint=_HINT)
    version = document.pop("schema_version", None)
    if version is None:
        raise FormatError(f"{path} is not a result of debias: schema_version is missing.", hint=_HINT)
    if isinstance(version, bool) or version != SCHEMA_VERSION:
        raise IncompatibleError(
            f"{path}: schema_version is {version!r}, and this onesense reads {SCHEMA_VERSION}.",
            hint="Read it with the onesense that wrote it, or debias again.",
        )
    try:
        result = typing.cast(DebiasResult, _decoded(DebiasResult, document, ""))
        if not 0 <= result.chosen < max(1, len(result.front)):
            raise _FieldError("chosen", f"is {result.chosen}, and the front has {len(result.front)} points")
    except _FieldError as error:
        raise FormatError(f"{path} is not a sound result of debias: {error}.", hint=_HINT) from None
    return result


def _decoded(kind: Any, value: Any, where: str) -> Any:
    """A value of the kind that the annotation says; tuples, which an audit has none of, are lists in JSON.

    Args:
        kind: Annotation: a dataclass, a plain type, a tuple, a dict, or one of these or None.
        value: What JSON holds.
        where: Path of the field, for messages.
    """
    if kind is object:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        present = next(argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _decoded(present, value, where)
    if origin is tuple:
        return _decoded_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise _FieldError(where, f"is {_short(value)}, and should be an object")
        return {key: _decoded(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and kind is not AuditResult:
        return _decoded_dataclass(typing.cast(type, kind), value, where)
    return _audit_decoded(kind, value, where)


def _decoded_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _FieldError(where, f"is {_short(value)}, and should be a list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise _FieldError(where, f"has {len(value)} entries, and should have {len(kinds)}")
    return tuple(
        _decoded(kind, item, f"{where}[{index}]")
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _decoded_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _FieldError(where, f"is {_short(value)}, and should be an object")
    annotations = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    prefix = f"{where}." if where else ""
    for name in value:
        if name not in names:
            raise _FieldError(f"{prefix}{name}", "is not a field of a result")
    for name in names:
        # every field is always written, those with a default too
        if name not in value:
            raise _FieldError(f"{prefix}{name}", "is missing")
    return kind(**{name: _decoded(annotations[name], value[name], f"{prefix}{name}") for name in names})
