"""What tests of the web page share."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, ViewportSize

from onesense.web.app import create_app
from onesense.web.workspace import Workspace

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


def check_whole(page: Page, accessible: Callable[[Page], None]) -> None:
    """The page light on a desk and dark on a phone: nothing that axe finds, nothing to scroll sideways."""
    for theme, size in (("light", DESK), ("dark", PHONE)):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.set_viewport_size(size)
        accessible(page)
        assert fits(page), f"{page.url} is wider than {size['width']} px"


def asking(folder: Path) -> TestClient:
    """Asks an application on the runs of a folder; what breaks there is an answer, as it is for a browser."""
    app = create_app(Workspace([folder], folder), warm=False)
    return TestClient(app, base_url=ADDRESS, headers={"x-onesense": "1"}, raise_server_exceptions=False)


def last_event(answer: httpx.Response) -> tuple[str, Any]:
    """Name and data of the last of the events that were streamed."""
    name, data = answer.text.strip().split("\n\n")[-1].split("\n", 1)
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))
