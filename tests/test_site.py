"""The documentation's site: pages made from code are in step, links lead somewhere, nothing loads from elsewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from recipes.model_card_page import page
from recipes.site_loads import loads

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^(`{3,}).*?^\1`*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def headings(path: Path) -> set[str]:
    """Anchors that GitHub and the site give to the headings of a page."""
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in found}


def test_the_command_line_page_is_in_step(tmp_path: Path) -> None:
    made = tmp_path / "cli.md"
    module = [sys.executable, "-m", "typer", "onesense.cli.main", "utils", "docs", "--name", "onesense"]
    subprocess.run([*module, "--output", str(made)], check=True, capture_output=True)
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == made.read_text(encoding="utf-8"), "make reference"


def test_the_model_card_page_is_in_step() -> None:
    assert (DOCS / "model-card-template.md").read_text(encoding="utf-8") == page(), "make reference"


def test_the_model_card_page_names_every_part_of_a_card() -> None:
    headed = set(re.findall(r"^## (.+)$", page(), re.MULTILINE))
    assert headed == {
        "How close it is to the recipe",
        "What was measured",
        "What it does not show",
        "How to load it",
        "Licence",
    }


def test_everything_in_the_reference_exists() -> None:
    named = [
        name
        for path in (DOCS / "reference").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(named) >= 40
    for name in named:
        module, _, last = name.rpartition(".")
        found = (
            importlib.import_module(name)
            if module == "onesense"
            else getattr(importlib.import_module(module), last)
        )
        assert (found.__doc__ or "").strip(), name


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert named == there | {"original_walk_through.md", "debias_your_own.md"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_files_and_headings(path: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name) if name else path
        assert target.exists(), f"{path.name}: {link}"
        if DOCS in path.parents:
            assert DOCS in target.resolve().parents, f"{path.name}: {link} leaves the site"
        if anchor:
            assert anchor in headings(target), f"{path.name}: {link}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.html", '<script src="https://example.org/a.js"></script>'),
        ("page.html", '<link rel="stylesheet" href="//example.org/a.css">'),
        ("page.html", '<link rel="preconnect" href="https://example.org">'),
        ("page.html", '<img srcset="a.png 1x, https://example.org/b.png 2x">'),
        ("page.html", '<iframe src="http://example.org">'),
        ("page.html", "<style>@import 'https://example.org/a.css';</style>"),
        ("page.html", '<p style="background: url(https://example.org/a.png)">'),
        ("look.css", "a { background: url('//example.org/a.png') }"),
    ],
)
def test_what_loads_from_elsewhere_is_found(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    (found,) = loads(tmp_path)
    assert found.startswith(name)
    assert "example.org" in found


def test_links_and_own_files_are_no_loads(tmp_path: Path) -> None:
    page = '<a href="https://example.org">x</a><img src="a.png"><link rel="canonical" href="https://example.org">'
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    assert loads(tmp_path) == []
