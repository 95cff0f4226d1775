"""The way that the page is made for: search, a feature, steer, add to a recipe, tune, save, audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from browser import GARDENS
from onesense.steer.recipe import read_recipe


def test_from_a_search_to_an_audited_recipe(
    page: Page,
    demo_run: Path,
    tmp_path: Path,
    start_server: Callable[..., str],
    accessible: Callable[[Page], None],
) -> None:
    server = start_server(str(demo_run), cwd=tmp_path)
    page.goto(server)
    page.get_by_role("searchbox").fill("gardens")
    page.get_by_role("button", name="Search").click()
    page.locator(f"a[href*='/features/{GARDENS}']").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(str(GARDENS))
    expect(page.get_by_text("places to sit: gardens and parks").first).to_be_visible()

    page.get_by_role("link", name="Steer", exact=True).last.click()
    expect(page.get_by_text("Done", exact=True)).to_be_visible(timeout=180_000)  # in three clicks
    assert page.locator(".steered .text").first.inner_text().startswith("We spent the whole day in the ")

    page.get_by_label("New tokens").fill("12")
    page.get_by_label("Samples").fill("1")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#state")).not_to_have_text("Done")
    expect(page.locator("#state")).to_have_text("Done", timeout=120_000)
    steered = page.locator(".steered .text").first.inner_text()
    assert steered.startswith("We spent the whole day in the ")
    assert steered != page.locator(".unsteered .text").first.inner_text()
    accessible(page)

    page.go_back()
    page.get_by_role("button", name="Add to recipe").click()
    page.goto(f"{server}/steer")
    page.get_by_role("button", name=f"Take out feature {GARDENS}").first.click()
    expect(page.get_by_role("button", name=f"Take out feature {GARDENS}")).to_have_count(1)
    page.get_by_label("Save the edits as a recipe").fill("no gardens")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator("#saved").get_by_role("link", name="Tune").click()

    expect(page.get_by_text("Measured in")).to_be_visible(timeout=180_000)
    factor = page.get_by_label(f"Factor of feature {GARDENS} at blocks.15.hook_resid_post, as a number")
    factor.fill("0.5")
    factor.press("Enter")
    expect(page.locator("#sliders .changed")).to_have_count(1)
    expect(page.locator("#audit-panel.stale")).to_have_count(0, timeout=120_000)
    accessible(page)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#sliders .changed")).to_have_count(0)
    page.get_by_role("button", name="Redo").click()
    page.get_by_label("Name of the new recipe").fill("half the gardens")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Audit it on held-out data").click()
    page.get_by_role("link", name="Read the report").click(timeout=600_000)
    expect(page.get_by_role("heading", level=1)).to_contain_text("audit", ignore_case=True)
    accessible(page)

    kept = read_recipe(tmp_path / "onesense-runs" / "recipes" / "half the gardens.json")
    assert [(edit.feature, edit.value) for part in kept.parts for edit in part.edits] == [(GARDENS, 0.5)]
    audits = list((tmp_path / "onesense-runs").glob("audit-*/audit.json"))
    assert len(audits) == 1
    assert json.loads(audits[0].read_text())["after"]
