"""The files of a study: JSON for programs, a page for readers, a table of units for a spreadsheet."""

from __future__ import annotations

from pathlib import Path

from onesense.report.study_csv import write_units
from onesense.report.study_html import study_page
from onesense.report.study_json import write_study
from onesense.store.atomic import write_text
from onesense.study.study import Study

STUDY_JSON = "study.json"
STUDY_PAGE = "study.html"
UNITS = "units.csv"


def write_study_files(study: Study) -> list[Path]:
    """Write ``study.json``, ``study.html`` and ``units.csv`` into the run folder.

    Returns:
        Their paths.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
        LockedError: Another process writes there.
    """
    paths = [study.run.path / name for name in (STUDY_JSON, STUDY_PAGE, UNITS)]
    with study.run.lock():
        write_study(study.result, paths[0])
        write_text(paths[1], study_page(study.result))
        write_units(paths[2], study.units)
    return paths
