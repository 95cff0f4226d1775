"""The picture of a measurement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onesense.senses.picture import draw_senses
from onesense.senses.sense_table import SenseTable


def _table(number: list[int], seed: int = 0) -> SenseTable:
    units = len(number)
    known = np.array(number) > 0
    several = np.where(known, np.random.default_rng(seed).random(units), np.nan).astype(np.float32)
    contexts = np.zeros((units, 3), np.float32)
    nothing = np.zeros(units, np.float32)
    counts = np.array(number, np.int32)
    return SenseTable(
        counts, several, several, nothing, nothing, nothing, counts, contexts, contexts, contexts
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tables",
    [
        {"features": _table([1, 2, 1, 0]), "neurons": _table([2, 2, 3], 1)},
        {"features": _table([1])},
        {"features": _table([0, 0]), "neurons": _table([1, 1])},
        {f"set {at}": _table([1, 2], at) for at in range(9)},
    ],
)
def test_a_picture_is_drawn(tables: dict[str, SenseTable], tmp_path: Path) -> None:
    target = draw_senses(tables, tmp_path / "senses.png", "Senses at <here> & $there")
    with Image.open(target) as image:
        assert image.format == "PNG"
        assert image.size == (1152, 504)
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["senses.png"]


def test_sets_without_a_known_unit_are_left_out(tmp_path: Path) -> None:
    shown = {"features": _table([1, 2])}
    with_empty = draw_senses({**shown, "neurons": _table([0])}, tmp_path / "a.png", "x").read_bytes()
    assert with_empty == draw_senses(shown, tmp_path / "b.png", "x").read_bytes()


@pytest.mark.filterwarnings("error")
def test_a_measurement_in_which_nothing_is_known_gives_an_empty_picture(tmp_path: Path) -> None:
    assert draw_senses({"features": _table([0])}, tmp_path / "a.png", "x").stat().st_size > 1000
