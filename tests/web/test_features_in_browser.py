"""The table of features in the browser: typing, keys, the address, and no JavaScript at all."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browser import GARDENS, PHONE, fits
from web.feature_runs import make_debias_run, make_extract_run, make_senses_run


@pytest.fixture(scope="module")
def known_runs(tmp_path_factory: pytest.TempPathFactory, start_server: Callable[..., str]) -> str:
    """The address of the table of a run with hostile texts, and with runs beside it."""
    folder = tmp_path_factory.mktemp("features") / "onesense-runs"
    make_extract_run(folder / "ex")
    make_senses_run(folder / "senses")
    make_debias_run(folder / "de")
    return f"{start_server(str(folder), cwd=folder.parent)}/runs/ex/features"


def _numbers(page: Page) -> list[str]:
    return page.locator("tbody th").all_inner_texts()


def test_found_while_typing_and_kept_in_the_address(page: Page, server: str) -> None:
    page.goto(f"{server}/features")
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "Features of demo"
    )  # the only run opens at once
    assert len(_numbers(page)) == 50
    search = page.get_by_role("searchbox")
    search.press_sequentially("gardens OR herself")
    count = page.get_by_role("status")
    expect(page).to_have_url(f"{server}/runs/demo/features?q=gardens+OR+herself")
    expect(count).not_to_have_text("4,608 of 4,608 features")
    expect(page.get_by_role("link", name=f"Feature {GARDENS}", exact=True)).to_be_visible()
    expect(search).to_be_focused()
    wide = count.inner_text()

    page.get_by_text("Filters and order").click()
    page.get_by_label("explained features").check()
    expect(page).to_have_url(f"{server}/runs/demo/features?q=gardens+OR+herself&explained=1")
    expect(page.get_by_role("link", name="Remove the filter: explained")).to_be_visible()
    page.go_back()
    expect(count).to_have_text(wide)
    expect(page.get_by_label("explained features")).not_to_be_checked()
    page.go_back()
    expect(count).to_have_text("4,608 of 4,608 features")
    expect(search).to_have_value("")
    page.go_forward()
    page.reload()
    expect(count).to_have_text(wide)
    expect(search).to_have_value("gardens OR herself")


def test_everything_works_with_keys_alone(
    page: Page, server: str, accessible: Callable[[Page], None]
) -> None:
    page.goto(f"{server}/runs/demo/features?sort=density")
    page.keyboard.press("n")
    expect(page).to_have_url(f"{server}/runs/demo/features?sort=density&page=2")
    expect(page.get_by_role("link", name="Next")).to_be_focused()
    page.keyboard.press("p")
    expect(page.get_by_text("page 1 of 93")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    accessible(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()

    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("jn")  # letters, here
    expect(page).to_have_url(f"{server}/runs/demo/features?q=jn&sort=density")
    page.get_by_role("searchbox").fill("")
    expect(page.get_by_text("page 1 of 93")).to_be_visible()
    page.keyboard.press("ArrowDown")
    rows = page.locator("tbody th a")
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    expect(rows.nth(1)).to_be_focused()
    address = rows.nth(1).get_attribute("href")
    page.route(f"**{address}", lambda route: route.fulfill(body="a feature", content_type="text/html"))
    with page.expect_navigation(url=f"{server}{address}"):
        page.keyboard.press("Enter")


def test_keys_can_be_switched_off(page: Page, server: str) -> None:
    page.goto(f"{server}/runs/demo/features")
    page.keyboard.press("?")
    page.get_by_label("use these keys").uncheck()
    page.get_by_role("button", name="Close").click()
    page.reload()
    page.keyboard.press("?")
    page.keyboard.press("n")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_text("page 1 of 93")).to_be_visible()


def test_heads_sort_and_keep_the_focus(page: Page, known_runs: str) -> None:
    page.goto(known_runs)
    head = page.get_by_role("link", name="Gender effect")
    head.click()
    expect(page.get_by_role("columnheader", name="Gender effect")).to_have_attribute(
        "aria-sort", "descending"
    )
    expect(head).to_be_focused()
    assert _numbers(page)[:2] == ["0", "7"]
    head.press("Enter")
    expect(page.get_by_role("columnheader", name="Gender effect")).to_have_attribute("aria-sort", "ascending")
    assert _numbers(page)[:2] == ["7", "0"]


def test_an_answer_to_an_older_question_never_wins(page: Page, known_runs: str) -> None:
    page.goto(known_runs)
    held = []
    page.route("**/features?q=garden", lambda route: held.append(route))
    search = page.get_by_role("searchbox")
    search.fill("garden")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    search.fill("frigate")
    expect(page.get_by_role("status")).to_have_text("1 of 6 features")
    assert held, "the first question was never asked"
    expect(page.get_by_text("sense 2")).to_be_visible()


def test_errors_are_said_and_the_table_stays(page: Page, known_runs: str, faults: list[str]) -> None:
    page.goto(known_runs)
    page.route("**/features?*", lambda route: route.abort())
    page.get_by_role("searchbox").fill("garden")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
    assert len(_numbers(page)) == 6
    page.unroute("**/features?*")
    page.get_by_role("searchbox").fill("frigate")
    expect(page.get_by_role("alert")).to_have_count(0)
    assert _numbers(page) == ["0"]
    faults.clear()  # the browser's console tells the request that we broke


def test_hostile_texts_on_a_phone(page: Page, known_runs: str, accessible: Callable[[Page], None]) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"{known_runs}?q=script")
    expect(page.get_by_role("rowheader", name="Feature 2")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    expect(page.get_by_role("status")).to_have_text("6 of 6 features")
    assert page.title() == "Features of ex · onesense"
    assert page.locator("#results script").count() == 0
    assert fits(page)
    accessible(page)


def test_without_javascript(browser: Browser, known_runs: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(known_runs)
    page.get_by_role("searchbox").fill("garden*")
    page.get_by_text("Filters and order").click()
    page.get_by_label("by", exact=True).select_option("density")
    page.get_by_role("button", name="Search").click()
    assert _numbers(page) == ["1", "7"]
    page.get_by_role("link", name="Density").click()
    assert _numbers(page) == ["7", "1"]
    page.get_by_role("searchbox").fill("7")
    page.get_by_role("button", name="Search").click()
    assert page.url == f"{known_runs}/7"
    context.close()


def test_the_table_goes_along_as_csv(page: Page, known_runs: str) -> None:
    page.goto(f"{known_runs}?q=garden*&sort=feature")
    with page.expect_download() as started:
        page.get_by_role("link", name="These as CSV").click()
    assert started.value.suggested_filename == "ex-features.csv"
    lines = Path(started.value.path()).read_text(encoding="utf-8").splitlines()
    assert [line.partition(",")[0] for line in lines] == ["feature", "1", "7"]


def test_an_address_of_a_million_characters_does_not_stop_the_server(known_runs: str) -> None:
    host, _, path = known_runs.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", f"/{path}?q={'a' * 10**6}")
        assert 400 <= connection.getresponse().status < 500
    except (BrokenPipeError, ConnectionResetError):
        pass  # it hung up before it had heard everything
    connection.close()
    connection.request("GET", f"/{path}?q=garden")
    assert connection.getresponse().status == 200
