"""Units as CSV: every number comes back, and a spreadsheet is not made to execute anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onesense.errors import FormatError, NotFoundError
from onesense.report.study_csv import HEADER, read_units, write_units
from onesense.study.units import COLUMNS
from study.tables import unit_table

NAMES = ("features, 4,608 wide", '=cmd|"calc"', "@a", "neurons")


def test_what_was_written_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    written = [unit_table(units=20 + k, seed=k, name=name) for k, name in enumerate(NAMES)]
    write_units(tmp_path / "units.csv", written)
    read = read_units(tmp_path / "units.csv")
    assert [one.name for one in read] == list(NAMES)
    for before, after in zip(written, read, strict=True):
        for column in COLUMNS:
            assert np.array_equal(getattr(before, column), getattr(after, column), equal_nan=True)


def test_formulas_are_taken_for_text(tmp_path: Path) -> None:
    write_units(tmp_path / "units.csv", [unit_table(units=1, name="=1+1")])
    lines = (tmp_path / "units.csv").read_text().splitlines()
    assert lines[0] == ",".join(HEADER)
    assert lines[1].startswith("'=1+1,0,")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "first line"),
        (b"a,b\n", "first line"),
        (b"\xff\xfe", "not a table"),
        (",".join(HEADER).encode() + b"\nfeatures,0,1\n", "line 2"),
        (",".join(HEADER).encode() + b"\nfeatures,1" + b",1" * len(COLUMNS) + b"\n", "line 2"),
        (",".join(HEADER).encode() + b"\nfeatures,0" + b",x" * len(COLUMNS) + b"\n", "no number"),
        (",".join(HEADER).encode() + b"\n\n", "line 2"),
    ],
)
def test_damaged_tables_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "units.csv"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_units(path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_units(tmp_path / "units.csv")
