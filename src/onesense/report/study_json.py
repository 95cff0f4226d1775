"""What a study said, as JSON, written and read back."""

from __future__ import annotations

from pathlib import Path

from onesense.report.json_fields import FileKind, read_fields, write_fields
from onesense.study.study import StudyResult

SCHEMA_VERSION = 1

_KIND = FileKind(
    noun="result of a study",
    article="a",
    again="study again",
    hint="It should be the study.json that `onesense study` wrote; run it again if the file is damaged.",
    schema_version=SCHEMA_VERSION,
)


def write_study(result: StudyResult, path: Path | str) -> str:
    """Write a result as JSON, atomically. NaN, which JSON has no word for, becomes null.

    Returns:
        SHA-256 of the file.

    Raises:
        StorageError: The file could not be written.
    """
    return write_fields(result, path, _KIND)


def read_study(path: Path | str) -> StudyResult:
    """Read a result that ``write_study`` wrote; null becomes NaN where a number must be.

    Raises:
        NotFoundError: There is no such file.
        FormatError: Not JSON, or a field is missing, unknown or of the wrong kind; the message names it.
        IncompatibleError: It was written by a version of onesense with another schema.
    """
    return read_fields(StudyResult, path, _KIND)
