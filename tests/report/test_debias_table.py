"""The last screens: the verdict first, everything in words, and nothing runs over."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from onesense.debias.results import DebiasResult
from onesense.report import wording
from onesense.report.debias_table import WIDTH, debias_table
from onesense.report.debias_wording import verdict
from report.debias_results import RESULTS, control, proof, result

FILES = {"page": "/runs/" + "long-name/" * 12 + "debias.html", "recipe": "recipes/kl-0.01.json"}


def printed(made: DebiasResult, *, width: int = 140, colour: bool = False) -> str:
    file = io.StringIO()
    console = Console(
        file=file, width=width, highlight=False, soft_wrap=True, force_terminal=colour,
        color_system="standard" if colour else None,
    )  # fmt: skip
    console.print(debias_table(made, FILES))
    return file.getvalue()


def row_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


@pytest.mark.parametrize("made", RESULTS.values(), ids=RESULTS)
@pytest.mark.parametrize("width", [100, 140, 400])
def test_it_fits_the_screen_and_says_the_verdict_first(made: DebiasResult, width: int) -> None:
    text = printed(made, width=width)
    assert max(cell_len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    assert " ".join(text.split()).startswith(" ".join(wording.clean(verdict(made)).split()))


def test_every_part_stands_there_in_order() -> None:
    text = printed(RESULTS["a control is ahead"])
    parts = [
        "gender bias fell by 69 %",
        "Recipes, measured on the tune split",
        "3, chosen",
        "Bias, held out",
        "Guards",
        "Controls at KL 0.0097: Occupations, held out · slope",
        "Edited features, 10 of 14",
        "page:",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert str(wording.Group.TUNING) not in text


def test_rows_say_everything() -> None:
    text = printed(RESULTS["a control ties"])
    for start, parts in {
        "3, chosen": ("0.0097", "52.2 %", "41.4 %", "96.1 %", "38"),
        "neurons": ("38", "0.0097", "39 % [27, 51]", "+19 [+12, +26]", "did less"),
        "random directions, same learning": ("55 % [43, 67]", "+3 [−4, +10]", "did as well"),
        "20 random draws of features": ("9 % [−10, 28]", "none did as well"),
        "LEACE": ("0.0040*",),
        "blocks.15.hook_resid_post · 101": ("× 0.18 less 0.05", "0.105", "56 %", "␣she", "‹U+200B›"),
    }.items():
        row = row_of(text, start)
        for part in parts:
            assert part in row, (start, part)
    assert "* not at the target’s KL" in text
    assert "…" not in row_of(text, "what was changed")


def test_ten_features_are_shown() -> None:
    text = printed(result())
    assert len(re.findall(r"^blocks\.\d+\.hook_resid_post · ", text, flags=re.MULTILINE)) == 10


def test_what_was_not_run_is_not_shown() -> None:
    text = printed(RESULTS["neither"])
    assert "nothing is proved" in " ".join(text.split())
    assert "Controls" not in text
    assert "audit of" not in text
    assert "Controls" not in printed(RESULTS["nothing"])


def test_a_control_that_was_not_measured_on_a_metric_has_no_row() -> None:
    unmeasured = control("unmeasured peer", "learned", 0.1, behind=0.2, metrics=())
    text = printed(result(proof=proof(unmeasured)))
    assert not [line for line in text.splitlines() if line.startswith("unmeasured peer")]
    assert "“unmeasured peer” cannot be compared" in " ".join(text.split())


def test_colour_only_repeats_the_words() -> None:
    made = RESULTS["a control is ahead"]
    coloured = printed(made, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == printed(made)


def test_hostile_text_has_no_power_over_the_terminal() -> None:
    text = printed(RESULTS["hostile"])
    for character in ("\x07", "\u202e", "\u200b"):
        assert character not in text
    markup = printed(result(notes=("[bold]x[/] [link=file:///]y",), audit=None, proof=None))
    assert "[bold]x[/] [link=file:///]y" in markup
