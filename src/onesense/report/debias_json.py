"""What a run of debias said, as JSON, written and read back."""

from __future__ import annotations

from pathlib import Path

from onesense.debias.results import DebiasResult
from onesense.report.json_fields import FieldError, FileKind, read_fields, write_fields

SCHEMA_VERSION = 2

_KIND = FileKind(
    noun="result of debias",
    article="a",
    again="debias again",
    hint="It should be the result.json that `onesense debias` wrote; run it again if the file is damaged.",
    schema_version=SCHEMA_VERSION,
)


def write_result(result: DebiasResult, path: Path | str) -> str:
    """Write a result as JSON, atomically. NaN and infinity, which JSON has no word for, become null.

    Returns:
        SHA-256 of the file.

    Raises:
        StorageError: The file could not be written.
    """
    return write_fields(result, path, _KIND)


def read_result(path: Path | str) -> DebiasResult:
    """Read a result that ``write_result`` wrote; null becomes NaN where a number must be.

    Settings come back as JSON holds them: a tuple among them as a list.

    Raises:
        NotFoundError: There is no such file.
        FormatError: Not JSON, or a field is missing, unknown or of the wrong kind; the message names it.
        IncompatibleError: It was written by a version of onesense with another schema.
    """
    return read_fields(DebiasResult, path, _KIND, _check_chosen)


def _check_chosen(result: DebiasResult) -> None:
    if not 0 <= result.chosen < max(1, len(result.front)):
        raise FieldError("chosen", f"is {result.chosen}, and the front has {len(result.front)} points")
