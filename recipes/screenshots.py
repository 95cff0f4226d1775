"""The pictures of the web page in docs/images: light and dark, phone and desk."""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

_SIZES = {"phone": (390, 844), "desk": (1440, 900)}
_THEMES = ("light", "dark")
_COLOURS = 128
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


class Shot(NamedTuple):
    """A page to take a picture of.

    Attributes:
        name: Of the file.
        address: Without the server.
        ready: Something that must be seen first.
        press: Buttons to press before, by name.
        wait_for: Something that must be seen after them.
    """

    name: str
    address: str
    ready: str = "h1"
    press: tuple[str, ...] = ()
    wait_for: str = "h1"


def take(browser: Browser, server: str, shots: list[Shot], output: Path) -> None:
    """Write `<page>-<size>-<theme>.png` for each page, size and theme.

    Args:
        browser: A browser.
        server: Address of `onesense serve`.
        shots: The pages.
        output: Folder of the pictures.
    """
    output.mkdir(parents=True, exist_ok=True)
    for size, (width, height) in _SIZES.items():
        for theme in _THEMES:
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=theme,  # type: ignore[arg-type]
                device_scale_factor=1,
                reduced_motion="reduce",
            )
            page = context.new_page()
            for shot in shots:
                _open(page, server, shot)
                _write(page.screenshot(), output / f"{shot.name}-{size}-{theme}.png")
                print(f"{shot.name} {size} {theme}", flush=True)  # noqa: T201 - a recipe's progress
            context.close()


def _open(page: Page, server: str, shot: Shot) -> None:
    page.goto(server + shot.address)
    page.locator(shot.ready).first.wait_for()
    for name in shot.press:
        page.get_by_role("button", name=name).first.click()
    page.locator(shot.wait_for).first.wait_for(timeout=120_000)
    page.wait_for_timeout(1_500)  # what is asked for after the page is there


def _write(png: bytes, path: Path) -> None:
    """A picture of few colours: a quarter of the bytes, and nobody sees it."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def serving(runs: Path) -> tuple[subprocess.Popen[str], str]:
    """`onesense serve` on a free port, and its address."""
    command = [sys.executable, "-m", "onesense", "serve", str(runs), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    for line in process.stderr or ():
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return process, found[0]
    raise SystemExit(f"onesense serve ended with {process.wait()}")


SHOTS = [
    Shot("runs", "/"),
    Shot("features", "/runs/{extract}/features?sort=effect"),
    Shot("feature", "/runs/{extract}/features/999", wait_for="#nearest a"),
    Shot(
        "steer",
        "/steer?edit={dictionary}/3748:direction_add:0.5:norm",
        press=("Generate",),
        wait_for="#state:text-is('Done')",
    ),
    Shot("tune", "/tune?run={debias}", wait_for="#bars svg"),
    Shot("reports", "/reports"),
    Shot("debias", "/runs/{debias}/debias"),
    Shot("audit", "/runs/{audit}/audit"),
    Shot("senses", "/runs/{senses}/senses"),
    Shot("study", "/runs/{study}/study"),
]
_COMMANDS = {
    "extract": "extract",
    "debias": "debias",
    "audit": "audit",
    "senses measure": "senses",
    "study": "study",
}


def named(runs: list[dict[str, str]]) -> dict[str, str]:
    """The first run of each kind, by the name that addresses above have for it."""
    found: dict[str, str] = {}
    for run in runs:
        if run["command"] in _COMMANDS:
            found.setdefault(_COMMANDS[run["command"]], run["id"])
    return found


def main() -> None:
    """Take every picture that the runs allow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    process, server = serving(asked.runs)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
            page = browser.new_page()
            page.goto(server)
            names = named(page.evaluate("fetch('/index.json').then((one) => one.json())")["runs"])
            known = page.evaluate("fetch('/steer.json').then((one) => one.json())")["dictionaries"]
            names["dictionary"] = next(
                (one["key"] for one in known if one["hook_point"].startswith("blocks.15")), ""
            )
            shots = [
                shot for shot in SHOTS if all(one in names for one in re.findall(r"{(\w+)}", shot.address))
            ]
            take(
                browser,
                server,
                [shot._replace(address=shot.address.format(**names)) for shot in shots],
                asked.output,
            )
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
