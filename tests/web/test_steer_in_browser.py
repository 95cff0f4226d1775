"""Steering in the browser, whole paths."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from browser import GARDENS, PHONE, fits

_WAIT = 120_000


def _add_gardens(page: Page) -> None:
    page.get_by_label("Add a feature").fill("gardens")
    page.locator("#found button").first.click()
    expect(page.get_by_role("group", name=f"Feature {GARDENS}")).to_be_visible()


def _generate(page: Page, tokens: int = 10) -> None:
    page.get_by_label("New tokens").fill(str(tokens))
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#state")).to_have_text("Done", timeout=_WAIT)


def test_from_a_search_to_a_recipe(page: Page, server: str, accessible: Callable[[Page], None]) -> None:
    page.goto(f"{server}/steer")
    _add_gardens(page)
    edit = page.get_by_role("group", name=f"Feature {GARDENS}")
    expect(edit.get_by_role("link")).to_have_attribute("href", f"/runs/demo/features/{GARDENS}")
    amount = edit.get_by_label(f"Amount of feature {GARDENS} as a number")
    amount.fill("1.5")
    expect(edit.locator(".dose")).to_contain_text("Above 1 text tends to break down")
    amount.fill("0.6")
    expect(edit.locator(".dose")).to_have_text("Dose: 0.6 of the mean norm")
    edit.get_by_role("slider").press("ArrowRight")
    expect(amount).to_have_value("0.65")
    edit.get_by_text("More").click()

    _generate(page)
    assert page.locator(".pair").count() == 2
    assert page.locator(".pair .steered .differs").first.inner_text()
    expect(page.locator("#told")).to_contain_text("of the mean norm")
    accessible(page)

    page.get_by_label("Samples").fill("1")
    page.get_by_label("or at these strengths").fill("0, 1")
    page.get_by_role("button", name="Sweep").click()
    expect(page.locator("#state")).to_have_text("Done", timeout=_WAIT)
    expect(page.get_by_role("region", name="× 1")).to_contain_text("dose 0.65")
    expect(page.get_by_role("region", name="× 0")).to_contain_text("nothing changed")
    page.get_by_role("button", name="Copy as command").click()
    expect(page.locator("#kept pre")).to_contain_text(f"--edit {GARDENS}:direction_add:0.65:norm --sweep 0,1")
    page.set_viewport_size(PHONE)
    accessible(page)
    assert fits(page)

    page.get_by_label("Save the edits as a recipe").fill("more gardens")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#saved")).to_contain_text("Saved as “more gardens”", timeout=_WAIT)
    expect(page.get_by_role("link", name="Tune", exact=True).last).to_have_attribute(
        "href", "/tune?recipe=saved.more-gardens"
    )
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    recipe = json.loads(download.value.path().read_text())
    assert recipe["parts"][0]["edits"][0]["feature"] == GARDENS

    page.reload()
    expect(
        page.get_by_role("group", name=f"Feature {GARDENS}")
    ).to_be_visible()  # the draft outlives the page
    expect(page.get_by_label("Samples")).to_have_value("1")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#edits")).to_contain_text("No edit yet")
    page.get_by_label("Load a recipe").select_option("saved.more-gardens")
    page.get_by_role("button", name="Load").click()
    expect(amount).to_have_value("0.65")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#edits")).to_contain_text("No edit yet")
    accessible(page)


def test_an_address_two_tabs_and_no_edit(page: Page, server: str) -> None:
    page.goto(f"{server}/steer")
    key = page.locator("#dictionary option").first.get_attribute("value")
    hostile = "</textarea><img src=x onerror=alert(1)>"
    page.goto(f"{server}/steer?edit={key}/{GARDENS}:scale:0&prompt={hostile}&seed=9")
    edit = page.get_by_role("group", name=f"Feature {GARDENS}")
    expect(edit).to_be_visible()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(hostile)
    expect(page.get_by_label("Seed", exact=True)).to_have_value("9")

    other = page.context.new_page()
    other.goto(f"{server}/steer")
    other.get_by_role("button", name=f"Take out feature {GARDENS}").click()
    expect(edit).to_have_count(0)
    page.reload()
    page.get_by_role("button", name="Add", exact=True).click()  # the second time the address only offers it
    expect(edit).to_be_visible()
    edit.get_by_label(f"Feature {GARDENS} is edited").uncheck()
    expect(edit).to_contain_text("off")
    _generate(page, 4)
    expect(page.locator("#told")).to_contain_text("nothing is steered")
    expect(page.locator(".differs").filter(has_text="a")).to_have_count(0)
    expect(page.locator(".pair img")).to_have_count(0)
    other.close()


def test_a_text_that_is_stopped_and_one_that_breaks_off_are_kept(page: Page, server: str) -> None:
    page.goto(f"{server}/steer")
    _add_gardens(page)
    page.get_by_label("New tokens").fill("256")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#state")).to_have_text("Writing …", timeout=_WAIT)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#state")).to_have_text("Stopped; what was written is kept")
    expect(page.locator("#texts")).to_contain_text("Stopped here.")
    kept = page.locator("#texts").inner_text()
    page.goto(f"{server}/work")
    expect(page.locator("tbody tr").first).to_contain_text("cancelled")
    assert len(kept) > len("We spent the whole day in the") * 4

    def break_off(route: Route) -> None:
        piece = {"steered": True, "sample": 0, "text": " garden of", "ended": False, "step": 0}
        route.fulfill(content_type="text/event-stream", body=f"event: piece\ndata: {json.dumps(piece)}\n\n")

    page.goto(f"{server}/steer")
    page.route("**/api/steer", break_off)
    page.get_by_label("New tokens").fill("4")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
    expect(page.locator(".steered").first).to_contain_text("garden of")
    expect(page.locator(".steered").first).to_contain_text("It broke off here.")
    page.unroute("**/api/steer")
    page.get_by_role("button", name="Again").click()
    expect(page.locator("#state")).to_have_text("Done", timeout=_WAIT)
