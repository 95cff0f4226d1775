"""Read documents from files, folders, JSON lines, parquet, or a hub dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from onesense.errors import ConfigurationError, FormatError, NetworkError, NotFoundError
from onesense.store.provenance import file_sha256

SAMPLE = "sample"
_TEXT_SUFFIXES = (".txt", ".md", ".text")
_JSON_SUFFIXES = (".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Document:
    """One text.

    Attributes:
        index: Number of the document in its source, from 0.
        name: Where it comes from, for people.
        text: The text itself, possibly empty.
    """

    index: int
    name: str
    text: str


def read_documents(
    source: str | None = None, *, field: str = "text", split: str = "train", limit: int | None = None
) -> Iterator[Document]:
    """Stream documents.

    Args:
        source: A text file, a folder (read recursively in name order), a ``.jsonl`` or ``.parquet`` file, a hub
            dataset (``owner/name`` or ``owner/name:configuration``, streamed), or None for the packaged sample.
        field: The column that holds the text, where there are columns.
        split: The hub dataset's split.
        limit: Stop after so many documents.

    Raises:
        NotFoundError: The source does not exist.
        FormatError: A file cannot be read as text, JSON or parquet, or lacks the column.
        NetworkError: The hub dataset is neither cached nor reachable.
    """
    for index, (name, text) in enumerate(_texts(source, field, split)):
        if limit is not None and index >= limit:
            return
        yield Document(index, name, text)


def text_identity(source: str | None) -> dict[str, str]:
    """What tells one text from another: the hash of its files, or the name of a hub dataset."""
    if source is None:
        return {"name": "sample"}
    path = Path(source).expanduser()
    if path.is_file():
        return {"sha256": file_sha256(path)}
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listed = [[file.relative_to(path).as_posix(), file_sha256(file)] for file in files]
        return {"sha256": hashlib.sha256(json.dumps(listed).encode()).hexdigest()}
    return {"name": source}


def _texts(source: str | None, field: str, split: str) -> Iterator[tuple[str, str]]:
    if source is None or source == SAMPLE:
        sample = resources.files("onesense") / "demo" / "sample.jsonl"
        with resources.as_file(sample) as path:
            if not path.is_file():
                raise NotFoundError("The packaged sample text is missing.", hint="Reinstall onesense.")
            yield from _json_lines(path, "text")
        return
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _readable(file))
        if not files:
            raise NotFoundError(
                f"{path} holds no text (.txt, .md, .jsonl, .parquet).", hint="Check the folder."
            )
        for file in files:
            yield from _file(file, field)
    elif path.is_file():
        yield from _file(path, field)
    elif source.startswith((".", "/", "~")) or path.suffix in (*_TEXT_SUFFIXES, *_JSON_SUFFIXES, ".parquet"):
        raise NotFoundError(f"There is no file or folder {path}.", hint="Check the path given as --text.")
    else:
        yield from _hub(source, field, split)


def _readable(path: Path) -> bool:
    return path.suffix.lower() in (*_TEXT_SUFFIXES, *_JSON_SUFFIXES, ".parquet") and not path.name.startswith(
        "."
    )


def _file(path: Path, field: str) -> Iterator[tuple[str, str]]:
    suffix = path.suffix.lower()
    if suffix in _JSON_SUFFIXES:
        yield from _json_lines(path, field)
    elif suffix == ".parquet":
        yield from _parquet(path, field)
    else:
        try:
            yield path.name, path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{path} is not UTF-8 text (byte {error.start}).",
                hint="Convert it, for example with `iconv -f latin1 -t utf8`.",
            ) from error


def _json_lines(path: Path, field: str) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path.name}:{number}", _field_of(_parsed(line, path, number), field, path, number)
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path} is not UTF-8 text (byte {error.start}).", hint="Convert it first."
        ) from error


def _parsed(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise FormatError(
            f"{path}, line {number}: not JSON ({error}).", hint="One JSON object a line."
        ) from error


def _field_of(row: Any, field: str, path: Path, number: int) -> str:
    text = row.get(field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        known = ", ".join(sorted(map(str, row)))[:200] if isinstance(row, dict) else "none"
        raise FormatError(
            f"{path}, row {number}: there is no text in the column `{field}`.",
            hint=f"Name the column with --text-field; it has: {known}.",
        )
    return text


def _parquet(path: Path, field: str) -> Iterator[tuple[str, str]]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        columns = file.schema_arrow.names
    except (arrow.ArrowException, OSError, ValueError) as error:  # names that are no UTF-8 are a ValueError
        raise FormatError(
            f"{path} is not a parquet file, or is damaged.", hint="Download it again."
        ) from error
    if field not in columns:
        raise FormatError(
            f"{path} has no column `{field}`.",
            hint=f"Name the column with --text-field; it has: {', '.join(columns)[:200]}.",
        )
    number = 0
    batches = file.iter_batches(batch_size=256, columns=[field])
    while True:
        try:
            texts = next(batches).column(0).to_pylist()
        except StopIteration:
            return
        except (
            arrow.ArrowException,
            OSError,
            ValueError,
        ) as error:  # pages are read, and unpacked, only here
            raise FormatError(f"{path} is damaged after row {number}.", hint="Download it again.") from error
        for text in texts:
            number += 1
            yield f"{path.name}:{number}", "" if text is None else str(text)


def _hub(source: str, field: str, split: str) -> Iterator[tuple[str, str]]:
    if source.count("/") > 1 or not source.replace("/", "").replace(":", ""):
        raise ConfigurationError(f"`{source}` is neither a path nor a dataset's name.", hint="Check --text.")
    from datasets import load_dataset

    name, _, configuration = source.partition(":")
    try:
        rows = load_dataset(name, configuration or None, split=split, streaming=True)
        for number, row in enumerate(rows, start=1):
            yield f"{source}:{number}", _field_of(row, field, Path(source), number)
    except (FormatError, NotFoundError):
        raise
    except Exception as error:
        raise NetworkError(
            f"The dataset `{source}` is neither in the local cache nor reachable: {str(error).splitlines()[0][:200]}",
            hint="Give a local file or folder, or leave out --text for the packaged sample.",
        ) from error
