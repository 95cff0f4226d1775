"""What tests of the web page share."""

from __future__ import annotations

from playwright.sync_api import Page, ViewportSize

ADDRESS = "http://127.0.0.1:8377"
"""What a test client pretends to talk to."""

PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1440, "height": 900}
GARDENS = 3748
"""Feature at block 15 of the demo that fires on gardens, kitchens and parks."""


def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))
