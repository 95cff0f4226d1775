"""Dataclasses as JSON and back, with errors that name the field."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from onesense.errors import FormatError, IncompatibleError
from onesense.store.atomic import read_json, write_json

_WORDS: Mapping[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}

_Result = TypeVar("_Result")


class FieldError(Exception):
    """A field that cannot be what it should be.

    Args:
        where: Path of the field.
        problem: What is wrong, to follow the path in a sentence.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where or 'the whole'} {problem}")


class FileKind(NamedTuple):
    """A kind of file, in words for messages.

    Attributes:
        noun: What it holds, without article: ``audit``.
        article: ``a`` or ``an``.
        again: How to make it anew: ``audit again``.
        hint: Where it comes from, and what to do about a damaged one.
        schema_version: The version that this onesense writes and reads.
    """

    noun: str
    article: str
    again: str
    hint: str
    schema_version: int


def write_fields(result: Any, path: Path | str, kind: FileKind) -> str:
    """Write a dataclass as JSON, atomically. NaN and infinity, which JSON has no word for, become null.

    Returns:
        SHA-256 of the file.

    Raises:
        StorageError: The file could not be written.
    """
    document = {"schema_version": kind.schema_version, **_plain(dataclasses.asdict(result))}
    return write_json(path, document, sort_keys=False)  # the order of what is in a dict says something


def read_fields(
    result: type[_Result],
    path: Path | str,
    kind: FileKind,
    check: Callable[[_Result], None] | None = None,
) -> _Result:
    """Read what ``write_fields`` wrote; null becomes NaN where a number must be.

    Args:
        result: The dataclass.
        path: The file.
        kind: What it is, for messages.
        check: Raises ``FieldError`` where sound fields do not go together.

    Raises:
        NotFoundError: There is no such file.
        FormatError: Not JSON, or a field is missing, unknown or of the wrong kind; the message names it.
        IncompatibleError: It was written by a version of onesense with another schema.
    """
    document = read_json(path)
    named = f"{kind.article} {kind.noun}"
    if not isinstance(document, dict):
        raise FormatError(f"{path} is not {named}: it should hold an object.", hint=kind.hint)
    version = document.pop("schema_version", None)
    if version is None:
        raise FormatError(f"{path} is not {named}: schema_version is missing.", hint=kind.hint)
    if isinstance(version, bool) or version != kind.schema_version:
        raise IncompatibleError(
            f"{path}: schema_version is {version!r}, and this onesense reads {kind.schema_version}.",
            hint=f"Read it with the onesense that wrote it, or {kind.again}.",
        )
    try:
        read = cast(_Result, _decoded(result, document, ""))
        if check is not None:
            check(read)
    except FieldError as error:
        raise FormatError(f"{path} is not a sound {kind.noun}: {error}.", hint=kind.hint) from None
    return read


def _plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _decoded(kind: Any, value: Any, where: str) -> Any:
    """A value of the kind that the annotation says.

    Args:
        kind: Annotation: a dataclass, an enumeration, a plain type, a list, a tuple, a dict, or one of these or
            None.
        value: What JSON holds.
        where: Path of the field, for messages.
    """
    if kind in (Any, object):
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        present = next(argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _decoded(present, value, where)
    if origin is list:
        items = _of_type(list, value, where, "a list")
        return [_decoded(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(items)]
    if origin is tuple:
        return _decoded_tuple(arguments, _of_type(list, value, where, "a list"), where)
    if origin is dict:
        pairs = _of_type(dict, value, where, "an object")
        return {key: _decoded(arguments[1], item, f"{where}.{key}") for key, item in pairs.items()}
    if dataclasses.is_dataclass(kind):
        return _decoded_dataclass(cast(type, kind), _of_type(dict, value, where, "an object"), where)
    if issubclass(kind, StrEnum):
        if value not in list(kind):
            raise FieldError(where, f"is {value!r}, and should be one of {', '.join(kind)}")
        return kind(value)
    return _decoded_scalar(kind, value, where)


def _decoded_tuple(kinds: tuple[Any, ...], items: list[Any], where: str) -> tuple[Any, ...]:
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(items)
    if len(items) != len(kinds):
        raise FieldError(where, f"has {len(items)} entries, and should have {len(kinds)}")
    return tuple(
        _decoded(kind, item, f"{where}[{index}]")
        for index, (kind, item) in enumerate(zip(kinds, items, strict=True))
    )


def _decoded_dataclass(kind: type, value: dict[str, Any], where: str) -> Any:
    annotations = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{where}." if where else ""
    for name in value:
        if name not in fields:
            raise FieldError(f"{prefix}{name}", "is not a field that belongs there")
    for name, field in fields.items():
        # All fields are written; only an empty collection may have been left out.
        optional = field.default_factory is not dataclasses.MISSING
        if name not in value and not optional:
            raise FieldError(f"{prefix}{name}", "is missing")
    return kind(
        **{name: _decoded(annotations[name], item, f"{prefix}{name}") for name, item in value.items()}
    )


def _decoded_scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float:
        if value is None:
            return math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not math.isfinite(number):
                raise FieldError(where, "is too large for a number")
            return number
    elif type(value) is kind:
        return value
    raise FieldError(where, f"is {_short(value)}, and should be {_WORDS[kind]}")


def _of_type(kind: type, value: Any, where: str, words: str) -> Any:
    if not isinstance(value, kind):
        raise FieldError(where, f"is {_short(value)}, and should be {words}")
    return value


def _short(value: Any) -> str:
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
