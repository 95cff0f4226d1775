"""An audit as JSON, written and read back."""

from __future__ import annotations

from pathlib import Path

from onesense.bias.results import AuditResult
from onesense.report.json_fields import FileKind, read_fields, write_fields

SCHEMA_VERSION = 1

_KIND = FileKind(
    noun="audit",
    article="an",
    again="audit again",
    hint="It should be the audit.json that `onesense audit` wrote; audit again if it is damaged.",
    schema_version=SCHEMA_VERSION,
)


def write_audit(path: Path | str, result: AuditResult) -> str:
    """Write an audit as JSON, atomically. NaN and infinity, which JSON has no word for, become null.

    Returns:
        SHA-256 of the file.

    Raises:
        StorageError: The file could not be written.
    """
    return write_fields(result, path, _KIND)


def read_audit(path: Path | str) -> AuditResult:
    """Read an audit that ``write_audit`` wrote; null becomes NaN where a number must be.

    Raises:
        NotFoundError: There is no such file.
        FormatError: Not JSON, or a field is missing, unknown or of the wrong kind; the message names it.
        IncompatibleError: It was written by a version of onesense with another schema.
    """
    return read_fields(AuditResult, path, _KIND)
