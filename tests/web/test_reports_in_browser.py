"""Reports and senses in a browser: read without a mouse, in every size and theme, whatever they say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from browser import PHONE, check_whole
from web.report_runs import KEY, make_runs


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, start_server: Callable[..., str]) -> str:
    """A server on reports of every kind."""
    folder = make_runs(tmp_path_factory.mktemp("reports"))
    return start_server(str(folder), cwd=folder)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, start_server: Callable[..., str]) -> str:
    """A server on reports whose every text is an attack."""
    folder = make_runs(tmp_path_factory.mktemp("hostile"), hostile=True)
    return start_server(str(folder), cwd=folder)


@pytest.mark.parametrize(
    "address",
    [
        "/reports", "/runs/audit/audit", f"/runs/audit/audit/items/{KEY}", "/runs/debias/debias",
        "/runs/study-gentle/study", "/senses", "/runs/senses-gentle/senses",
        "/runs/senses-gentle/senses/features/0",
    ],
)  # fmt: skip
def test_a_page_is_whole(page: Page, reports: str, accessible: Callable[[Page], None], address: str) -> None:
    page.goto(reports + address)
    check_whole(page, accessible)


def test_the_switch_of_themes_reaches_a_report(page: Page, reports: str) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(f"{reports}/runs/audit/audit")
    colour = "getComputedStyle(document.querySelector('.summary')).backgroundColor"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Change between light and dark").click()
    assert page.evaluate(colour) != light


def test_the_front_is_read_and_opened_with_the_keyboard(page: Page, reports: str, faults: list[str]) -> None:
    page.goto(f"{reports}/runs/debias/debias")
    told = page.locator("#front-told")
    expect(told.get_by_role("heading")).to_have_text("Recipe 3, chosen")
    points = page.locator(".front-plot a")
    expect(points).to_have_count(3)  # the file of the fourth is not there
    points.nth(0).focus()
    expect(told.get_by_role("heading")).to_have_text("Recipe 1")
    page.keyboard.press("Tab")
    expect(told.get_by_role("heading")).to_have_text("Recipe 2")
    expect(told).to_contain_text("0.0028")
    expect(page.locator("tr.told")).to_contain_text("kl-0.003")
    points.nth(2).hover()
    expect(told.get_by_role("heading")).to_have_text("Recipe 3, chosen")
    points.nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/tune?recipe=debias.kl-0-003")
    faults.clear()  # these runs have no model to tune


def test_a_finger_first_reads_a_point_then_opens_it(page: Page, reports: str, faults: list[str]) -> None:
    touching = page.context.browser.new_context(viewport=PHONE, has_touch=True)  # type: ignore[union-attr]
    phone = touching.new_page()
    phone.goto(f"{reports}/runs/debias/debias")
    phone.locator(".front-plot a").nth(0).tap()
    expect(phone.locator("#front-told").get_by_role("heading")).to_have_text("Recipe 1")
    assert phone.url.endswith("/debias")
    phone.get_by_role("link", name="Open this recipe").tap()
    phone.wait_for_url("**/tune?recipe=debias.kl-0-001")
    touching.close()


def test_from_a_report_to_the_items_that_changed_most(page: Page, reports: str) -> None:
    page.goto(f"{reports}/reports")
    page.get_by_role("link", name="audit", exact=True).click()
    page.get_by_role("link", name="every item").click()
    page.locator("#items ~ ul").get_by_role("link").first.click()
    expect(page.locator("tbody tr").first).to_contain_text("item 59")
    page.get_by_label("Order", exact=True).select_option("down")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr").first).to_contain_text("item 0")
    page.get_by_role("link", name="Next").click()
    assert "order=down&page=2" in page.url
    with page.expect_download() as download:
        page.get_by_role("link", name="All items as a table").click()
    assert download.value.suggested_filename == f"audit-{KEY}.csv"


def test_from_the_senses_to_a_context(page: Page, reports: str) -> None:
    page.goto(f"{reports}/senses")
    page.get_by_role("link", name="senses gentle").click()
    page.get_by_label("Token of a sense").fill("HER")
    page.get_by_role("search").get_by_label("Units").select_option("features")
    page.keyboard.press("Tab")
    page.get_by_label("Token of a sense").press("Enter")
    expect(page.get_by_role("status")).to_have_text("120 units")
    page.get_by_role("link", name="Looks like several").click()
    assert "order=up" in page.url
    page.locator("tbody").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Feature 0")
    expect(page.locator(".peak").first).to_have_attribute("title", "4")


def test_nothing_that_reports_say_runs(page: Page, hostile: str, faults: list[str]) -> None:
    page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
    for address in (
        "/reports", "/runs/audit/audit", f"/runs/audit/audit/items/{KEY}", "/runs/debias/debias",
        "/runs/study-img-src-x-onerror-alert-2/study", "/senses", "/runs/senses-img-src-x-onerror-alert-2/senses",
        "/runs/senses-img-src-x-onerror-alert-2/senses/features/0",
    ):  # fmt: skip
        page.goto(hostile + address)
        assert page.locator("main script, main img, main iframe").count() == 0
        assert page.locator("a[href^='javascript:'], a[href^='//']").count() == 0
