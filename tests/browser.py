"""What tests of the web page share."""

from __future__ import annotations

import os
import shutil

import pytest
from playwright.sync_api import Page, ViewportSize

ADDRESS = "http://127.0.0.1:8377"
"""What a test client pretends to talk to."""

PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1440, "height": 900}
GARDENS = 3748
"""Feature at block 15 of the demo that fires on gardens, kitchens and parks."""

BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


def chromium_path() -> str:
    """Chromium, as Debian packages it; the test is skipped where there is none."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("needs Chromium (Debian's package chromium), or its path in CHROMIUM")
    return found


def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))
