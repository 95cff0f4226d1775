"""The list of runs and the page of one, in the browser: from nothing to progress, and an audit from the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from browser import DESK, PHONE, check_whole, fits
from onesense.engine.stages import Silent
from onesense.store.progress import RecordedStages
from onesense.store.provenance import provenance
from onesense.store.run_folder import RUN_FILE, RunFolder

HOSTILE = "<img src=x onerror=document.title='owned'>\u202e"


def _make(path: Path, **configuration: object) -> RunFolder:
    return RunFolder.create_or_resume(
        path,
        command="extract",
        configuration={"model": "demo", **configuration},
        provenance=provenance(model={"name": "demo", "fingerprint": "ab"}, seeds=0),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs-in-browser") / "runs"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def address(folder: Path, start_server: Callable[..., str]) -> str:
    return start_server(str(folder), cwd=folder.parent)


def test_runs_come_go_and_tell_how_far_they_are(
    page: Page, address: str, folder: Path, accessible: Callable[[Page], None]
) -> None:
    page.goto(address)
    expect(page.get_by_text("There is no run here yet")).to_be_visible()
    expect(page.get_by_text("onesense extract demo --max-tokens 50000")).to_be_visible()
    accessible(page)

    clock = [0.0]
    run = _make(folder / HOSTILE, dictionary=HOSTILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onesense.store.progress.time.monotonic", lambda: clock[0])
        with run.lock(), RecordedStages(Silent(), run.path).stage(f"Reading {HOSTILE}", "tokens") as progress:
            shown = page.locator("[data-state=running]")
            expect(shown.locator(".doing")).to_contain_text("Reading <img", timeout=30_000)
            clock[0] += 2
            progress(1234, 5000)
            expect(shown.locator(".how-far")).to_have_text("1,234 of 5,000 tokens", timeout=30_000)
            expect(shown.get_by_role("progressbar")).to_have_js_property("value", 1234)
            check_whole(page, accessible)
            page.set_viewport_size(DESK)
            shown.get_by_role("link", name="Details").click()
            expect(page.locator("#run .how-far")).to_have_text("1,234 of 5,000 tokens")
            accessible(page)
    expect(page.locator("#run[data-run] .state")).to_have_text("stopped", timeout=30_000)
    page.set_viewport_size(PHONE)
    assert fits(page)
    assert page.title().startswith("<img")

    (run.path / RUN_FILE).write_text("{")
    page.goto(address)
    expect(page.get_by_text("damaged", exact=True)).to_be_visible()
    expect(page.get_by_text("is not valid JSON")).to_be_visible()
    accessible(page)
    assert fits(page)
    shutil.rmtree(run.path)
    page.reload()
    expect(page.get_by_text("There is no run here yet")).to_be_visible()


def test_a_run_that_ends_before_the_first_look_is_shown_as_ended(
    page: Page, address: str, folder: Path
) -> None:
    run = _make(folder / "ends early")
    held = ExitStack()
    held.enter_context(run.lock())
    held.enter_context(RecordedStages(Silent(), run.path).stage("Reading", "tokens"))
    try:
        page.goto(address)
        details = page.get_by_role("link", name="Details").get_attribute("href")

        def end(route: Route) -> None:
            held.close()
            route.continue_()

        page.route(f"**{details}.json", end, times=1)
        page.goto(f"{address}{details}")
        expect(page.locator("#run[data-run] .state")).to_have_text("stopped", timeout=30_000)
    finally:
        held.close()
        shutil.rmtree(run.path)


def test_from_the_list_to_a_feature_with_the_keyboard(page: Page, server: str) -> None:
    page.goto(server)
    page.get_by_role("searchbox").focus()
    page.keyboard.type("garden")
    page.keyboard.press("Enter")
    page.wait_for_url("**/features?q=garden*")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_an_audit_begins_on_the_page_of_a_run_and_can_be_ended(
    page: Page, server: str, accessible: Callable[[Page], None]
) -> None:
    page.goto(f"{server}/runs/demo")
    expect(page.get_by_role("heading", level=1)).to_contain_text("demo")
    page.get_by_role("button", name="Start the audit").click()
    end = page.get_by_role("button", name="End the audit")
    expect(end).to_be_enabled()
    accessible(page)
    end.click()
    ended = page.get_by_text("Ended. The same audit goes on where it stopped.")
    expect(ended).to_be_visible(timeout=60_000)  # a model that loads cannot be interrupted
    expect(page.get_by_role("button", name="Start the audit")).to_be_enabled()
