"""The version of what a run folder holds."""

from __future__ import annotations

from onesense.errors import FormatError, IncompatibleError

SCHEMA_VERSION = 1
"""Raised by one whenever a reader of the old layout would misread the new one."""


def check_schema(found: object, *, where: str = "this run folder") -> int:
    """Refuse what a newer onesense wrote, and what no onesense can have written.

    Args:
        found: The version read from the file.
        where: What was read, for the message.

    Returns:
        The version, at most :data:`SCHEMA_VERSION`.

    Raises:
        IncompatibleError: A newer version.
        FormatError: Not a version at all.
    """
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise FormatError(
            f"{where} has no valid schema version (found {found!r}).",
            hint="Delete it and run the command again.",
        )
    if found > SCHEMA_VERSION:
        raise IncompatibleError(
            f"{where} was written by a newer onesense: schema {found}, and this one knows {SCHEMA_VERSION}.",
            hint="Upgrade onesense, or choose another folder with --run-folder.",
        )
    return found
