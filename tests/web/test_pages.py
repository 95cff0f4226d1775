"""Every page in the browser: light and dark, phone and desk, no fault, no violation, nothing to scroll sideways."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from browser import check_whole

PAGES = [
    "/",
    "/work",
    "/tune",
    "/tune?draft=1",
    "/steer",
    "/reports",
    "/senses",
    "/runs/demo",
    "/runs/demo/features/3748",
    "/runs/demo/features/11",
    "/runs/demo/features",
    "/runs/demo/features?q=she&score_from=0.1&sort=density",
    "/runs/demo/features?q=nothing+holds+these&explained=1",
]


@pytest.mark.parametrize("address", PAGES)
def test_a_page_is_whole(page: Page, server: str, accessible: Callable[[Page], None], address: str) -> None:
    page.goto(server + address)
    check_whole(page, accessible)


def test_an_address_without_a_page_is_explained(
    page: Page, server: str, accessible: Callable[[Page], None], faults: list[str]
) -> None:
    page.goto(f"{server}/nothing/here")
    assert page.get_by_role("heading", level=1).inner_text() == "Not here"
    accessible(page)
    faults.clear()  # the browser's console tells the status 404
