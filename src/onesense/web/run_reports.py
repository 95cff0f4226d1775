"""Reports of runs: read where they are whole, and explained where they are not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onesense.bias.results import AuditResult
from onesense.debias.results import DebiasResult
from onesense.errors import FormatError, NotFoundError, OnesenseError, StorageError
from onesense.report import debias_wording, study_wording, wording
from onesense.report.audit_files import AUDIT_JSON
from onesense.report.audit_json import read_audit
from onesense.report.debias_json import read_result
from onesense.report.study_files import STUDY_JSON
from onesense.report.study_json import read_study
from onesense.study.study import StudyResult
from onesense.web.workspace import KnownRun, Workspace

RESULT_JSON = "result.json"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReportKind:
    """A kind of report.

    Attributes:
        command: The command that writes it, and its name in addresses.
        title: What several of them are called.
        asks: What they answer, in one sentence.
        make: How the first one is made.
        file: Its JSON in the run folder.
        read: Reads it.
        finding: What it found, in sentences; the first is the one-line answer.
    """

    command: str
    title: str
    asks: str
    make: str
    file: str
    read: Callable[[Path], Any]
    finding: Callable[[Any], list[str]]


def _audit_finding(result: AuditResult) -> list[str]:
    return [*wording.findings(result), wording.subject(result)]


def _debias_finding(result: DebiasResult) -> list[str]:
    return [debias_wording.verdict(result)]


def _study_finding(result: StudyResult) -> list[str]:
    return [study_wording.headline(result)]


KINDS: Mapping[str, ReportKind] = {
    kind.command: kind
    for kind in (
        ReportKind(
            "debias",
            "Debias runs",
            "Recipes that were found and tuned by themselves, and proved on held-out data.",
            "onesense debias demo",
            RESULT_JSON,
            read_result,
            _debias_finding,
        ),
        ReportKind(
            "audit",
            "Audits",
            "How much gender bias a model has, or what a recipe changes, on many benchmarks.",
            "onesense audit demo",
            AUDIT_JSON,
            read_audit,
            _audit_finding,
        ),
        ReportKind(
            "study",
            "Studies",
            "Whether units with several senses carry more gender bias.",
            "onesense study demo",
            STUDY_JSON,
            read_study,
            _study_finding,
        ),
    )
}
"""By command, the most telling first."""


def open_report(known: KnownRun, command: str) -> Any:
    """The result that a run's command wrote.

    Raises:
        NotFoundError: It is not there (yet, or any more), or it cannot be read.
        FormatError: It is damaged.
        IncompatibleError: Another version of onesense wrote it.
    """
    kind = KINDS[command]
    path = known.path / kind.file
    if not is_there(path):
        raise NotFoundError(
            f"The run {known.path.name} has no report yet.",
            hint=f"Its command still runs, or was stopped. The same `onesense {command}` with this "
            "--run-folder goes on where it stopped.",
        )
    with readable(known):
        return kind.read(path)


@contextmanager
def readable(known: KnownRun) -> Iterator[None]:
    """What a run holds is read and drawn inside: where that cannot be, the run is at fault, and is told so.

    Raises:
        NotFoundError: A file cannot be read.
        FormatError: The numbers are of the right kind, but no command wrote them so.
    """
    try:
        yield
    except StorageError as error:
        raise NotFoundError(error.message, hint=error.hint) from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        _logger.warning("The run %s cannot be shown", known.path.name, exc_info=error)
        raise FormatError(
            f"What the run {known.path.name} holds cannot be shown: it is damaged.",
            hint="Run its command again into another folder.",
        ) from error


def is_there(path: Path) -> bool:
    """Whether a file is there, and may be looked at."""
    try:
        return path.is_file()
    except OSError:
        return False


def file_bytes(path: Path) -> bytes:
    """What a file of a run holds.

    Raises:
        NotFoundError: It is not there, or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"The run has no file {path.name} that can be read.", hint="Run its command again."
        ) from error


def list_reports(workspace: Workspace) -> list[dict[str, Any]]:
    """Every kind with its reports, the newest first; those that cannot be shown say why."""
    known = workspace.of_command(*KINDS)
    return [
        {
            "command": kind.command,
            "title": kind.title,
            "asks": kind.asks,
            "make": kind.make,
            "reports": [_entry(one, kind) for one in _newest_first(known, kind)],
        }
        for kind in KINDS.values()
    ]


def _newest_first(known: list[KnownRun], kind: ReportKind) -> list[KnownRun]:
    return sorted(
        (one for one in known if one.command == kind.command),
        key=lambda one: (-_written(one.path / kind.file), one.id),
    )


def _written(path: Path) -> float:
    """When the file was written; 0 where it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _entry(known: KnownRun, kind: ReportKind) -> dict[str, Any]:
    entry = {
        "id": known.id,
        "name": known.path.name,
        "model": known.fact("model"),
        "address": f"/runs/{known.id}/{kind.command}",
        "finding": [],
        "problem": "",
        "hint": "",
    }
    try:
        result = open_report(known, kind.command)
        with readable(known):
            return {**entry, "model": result.model, "finding": kind.finding(result)}
    except OnesenseError as error:
        return {**entry, "problem": error.message, "hint": error.hint or ""}
