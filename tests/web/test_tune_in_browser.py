"""Tuning by hand in the browser: sliders, the audit after each change, undo, what is kept, saving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from browser import check_whole
from onesense.steer.recipe import read_recipe
from web.tuned_runs import EDITED, STRONGEST, make_tuned_runs

PATIENCE = 120_000
"""Milliseconds: the model is loaded, on a machine that does other things."""


@pytest.fixture(scope="module")
def folder(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned_runs(demo_run, tmp_path_factory.mktemp("tune") / "onesense-runs")


@pytest.fixture(scope="module")
def tuning(folder: Path, start_server: Callable[..., str]) -> str:
    """The address of tuning a debias run's recipe."""
    return f"{start_server(str(folder), cwd=folder.parent)}/tune"


def _slider(page: Page, feature: int) -> Locator:
    return page.get_by_role("slider", name=f"Factor of feature {feature} at")


def _measured(page: Page) -> Locator:
    expect(page.locator("#audit-panel")).not_to_have_class("panel stale", timeout=PATIENCE)
    expect(page.locator("#state")).to_contain_text("Measured in", timeout=PATIENCE)
    return page.locator("[data-measure=facts] tr.yours strong")


def test_from_a_slider_to_a_saved_recipe(
    page: Page, tuning: str, folder: Path, accessible: Callable[[Page], None]
) -> None:
    page.goto(f"{tuning}?run=bias")
    before = _measured(page).inner_text()
    assert page.title() != "owned"
    assert page.locator("li.slider").first.get_attribute("data-name").endswith(f"/{STRONGEST}")  # type: ignore[union-attr]

    slider = _slider(page, STRONGEST)
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_value("0")
    after = _measured(page)
    expect(after).not_to_have_text(before, timeout=PATIENCE)
    assert page.locator("[data-measure=facts] tr.start strong").inner_text() == before

    page.keyboard.press("Control+z")
    expect(slider).to_have_value("1")
    expect(_measured(page)).to_have_text(before)
    page.keyboard.press("Control+Shift+Z")
    expect(slider).to_have_value("0")

    page.reload()  # what was set is kept in this browser
    expect(_slider(page, STRONGEST)).to_have_value("0")
    _measured(page)
    check_whole(page, accessible)

    page.get_by_label("Name of the new recipe").fill("by hand")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name="Steer with it")).to_have_attribute(
        "href", "/steer?recipe=saved.by-hand", timeout=PATIENCE
    )
    saved = read_recipe(folder / "recipes" / "by hand.json")
    assert {edit.feature: edit.amount for edit in saved.parts[0].edits}[STRONGEST] == 0


def test_all_at_once_filters_and_another_tab(page: Page, tuning: str) -> None:
    page.goto(f"{tuning}?recipe=bias.kl-0-01")
    _measured(page)
    page.get_by_role("button", name="None edited").click()
    expect(_slider(page, EDITED)).to_have_value("1")
    page.get_by_role("button", name="To the automatic recipe").click()
    expect(_slider(page, EDITED)).to_have_value("0.25")
    page.get_by_role("button", name="All off").click()
    expect(_slider(page, EDITED)).to_have_value("0")
    expect(_slider(page, STRONGEST)).to_have_value("1")  # the recipe leaves it alone

    page.get_by_label("Show").select_option("edited")
    expect(_slider(page, STRONGEST)).to_be_hidden()
    page.get_by_label("Show").select_option("all")
    page.get_by_label("Find here").fill(str(STRONGEST))
    expect(page.locator("#count")).to_have_text("1 of 3 features")
    page.get_by_label("Find here").fill("no such words")
    expect(page.get_by_text("No feature fits")).to_be_visible()
    page.get_by_label("Find here").fill("")

    page.get_by_text("Add another feature").click()
    page.get_by_label("Words or number").fill("7")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("button", name="Add feature 7").click()
    expect(_slider(page, 7)).to_have_value("1")

    other = page.context.new_page()
    other.goto(f"{tuning}?recipe=bias.kl-0-01")
    expect(_slider(other, EDITED)).to_have_value("0")
    box = other.get_by_label(f"Factor of feature {EDITED}").and_(other.locator("[type=number]"))
    box.fill("-0.5")
    box.press("Tab")
    expect(page.get_by_text("changed in another tab")).to_be_visible()
    page.get_by_role("button", name="Take those").click()
    expect(_slider(page, EDITED)).to_have_value("-0.5")


def test_a_draft_goes_on_here(page: Page, tuning: str) -> None:
    page.goto(f"{tuning}?recipe=bias.kl-0-01")
    name = page.locator("li.slider").first.get_attribute("data-name") or ""
    draft = [
        {"dictionary": name.partition("/")[0], "hook_point": "blocks.15.hook_resid_post", "model": "demo",
         "feature": feature, "operation": operation, "value": value, "unit": "raw", "window": "all", "on": True}
        for feature, operation, value in ((STRONGEST, "scale", 0.5), (12, "clamp", 1))
    ]  # fmt: skip
    page.evaluate("draft => localStorage.setItem('onesense-draft', JSON.stringify(draft))", draft)
    page.goto(f"{tuning}?draft=1")
    expect(_slider(page, STRONGEST)).to_have_value("0.5")
    page.get_by_text("1 other edit stays as it is").click()
    expect(page.locator("#fixed-list")).to_contain_text("clamp 1")
    _measured(page)


def test_a_recipe_of_other_weights_is_told(
    page: Page, tuning: str, accessible: Callable[[Page], None]
) -> None:
    page.goto(f"{tuning}?recipe=saved.other-model")
    expect(page.get_by_role("alert")).to_contain_text("has other weights", timeout=PATIENCE)
    expect(page.get_by_role("button", name="Measure again")).to_be_visible()
    accessible(page)
