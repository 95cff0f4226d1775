"""Per-item tables: what goes in comes out, and no spreadsheet runs it."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onesense.bias.benchmark import Item
from onesense.bias.scoring.requests import Request
from onesense.errors import ConfigurationError, FormatError, IncompatibleError, NotFoundError
from onesense.report.items_csv import read_items, write_items


def item(id: str = "a", cluster: str = "nurse", *requests: Request) -> Item:
    return Item(
        id, cluster, requests or (Request("She left."), Request("He left.", context="The nurse said:"))
    )


def rows(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""), strict=True))


def test_each_column_stands_for_each_variant(tmp_path: Path) -> None:
    tables = [
        {"gap": np.array([0.5, -1.25]), "women": np.array([90.0, 10.0])},
        {"gap": np.array([0.1, math.nan]), "women": np.array([90.0, 10.0])},
    ]
    path = tmp_path / "items.csv"
    write_items(
        path, [item("a"), item("b", "nurse", Request("", ids=(1, 2, 3)))], tables, ["before", "after"]
    )
    assert path.read_bytes().decode() == (
        "id,cluster,texts,gap [before],gap [after],women [before],women [after]\n"
        "a,nurse,She left. || The nurse said:|He left.,0.5,0.1,90.0,90.0\n"
        "b,nurse,<3 token ids>,-1.25,,10.0,10.0\n"
    )


def test_a_column_of_one_variant_only(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    write_items(path, [item()], [{}, {"kl": np.array([0.01])}], ["before", "after"])
    assert rows(path)[0][3:] == ["kl [after]"]


@pytest.mark.parametrize(
    "hostile",
    ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\tx", "\rx", "\nx", "-", "\uff1d1+1", "-1e5x"],
)
def test_a_formula_gets_an_apostrophe(tmp_path: Path, hostile: str) -> None:
    path = tmp_path / "items.csv"
    write_items(path, [item(hostile, hostile, Request(hostile))], [{hostile: np.array([1.0])}], ["x"])
    header, row = rows(path)
    assert row == [f"'{hostile}"] * 3 + ["1.0"]
    assert header[3] == f"'{hostile} [x]"


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    values = np.array([-1.5, 1e-300, -0.0, 1 / 3, math.inf])
    write_items(path, [item("-5")] * 5, [{"x": values}], ["before"])
    assert [float(row[3]) for row in rows(path)[1:]] == values.tolist()
    assert rows(path)[1][0] == "-5"


cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(id=cells, cluster=cells, text=cells, label=cells)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, id: str, cluster: str, text: str, label: str
) -> None:
    path = tmp_path_factory.mktemp("items") / "items.csv"
    write_items(path, [item(id, cluster, Request(text))], [{"x": np.array([0.25])}], [label])
    header, row = rows(path)
    assert header[3] == f"x [{label}]"
    for wrote, read in zip((id, cluster, text), row, strict=False):
        assert read in (wrote, f"'{wrote}")
        assert not read.startswith(("=", "@", "\t", "\r"))
    assert float(row[3]) == 0.25


def test_what_has_no_bytes_is_still_written(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    write_items(path, [item("\ud800", "a\0b")], [{}], ["before"])
    assert rows(path)[1][:2] == ["\\ud800", "a�b"]


def test_no_items_and_no_columns(tmp_path: Path) -> None:
    write_items(tmp_path / "items.csv", [], [{"x": np.array([])}], ["before"])
    assert rows(tmp_path / "items.csv") == [["id", "cluster", "texts", "x [before]"]]


def test_what_does_not_fit_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    with pytest.raises(IncompatibleError, match=r"gap \[before\]"):
        write_items(path, [item()], [{"gap": np.array([1.0, 2.0])}], ["before"])
    for labels in (["before"], ["same", "same"]):
        with pytest.raises(ConfigurationError, match="label"):
            write_items(path, [item()], [{}, {}], labels)
    assert not list(tmp_path.iterdir())


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    tables = [{"gap": np.array([0.5, -1.25])}, {"gap": np.array([0.1, math.nan])}]
    hostile = item("=cmd", 'a "quoted", one', Request("<b>two\nlines"), Request("he", context="@x"))
    write_items(path, [item("a"), hostile], tables, ["before", "after"])
    first, second = read_items(path)
    assert (first.id, first.cluster, first.texts) == ("a", "nurse", ("She left.", "The nurse said:|He left."))
    assert first.numbers == {"gap [before]": 0.5, "gap [after]": 0.1}
    assert (second.id, second.cluster) == ("=cmd", 'a "quoted", one')
    assert second.texts == ("<b>two\nlines", "@x|he")
    assert second.numbers == {"gap [before]": -1.25, "gap [after]": None}


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"a,b\n1,2\n",
        b"id,cluster,texts,x\na,b,c\n",
        b"id,cluster,texts,x\na,b\n",
        b"id,cluster,texts,x\na,b,c,word\n",
        b'id,cluster,texts,x\na,b,"c\n',
        b"id,cluster,texts,x\na,b,\xff,1\n",
        b"id,cluster,texts,x\na,b," + b"c" * 200_000 + b",1\n",
    ],
)
def test_a_damaged_table_is_told(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match=r"items\.csv"):
        read_items(path)
    with pytest.raises(NotFoundError):
        read_items(tmp_path / "other.csv")
