"""Whether the built documentation loads anything from elsewhere."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_ELSEWHERE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
_IN_CSS = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)
_LINK_KINDS = {"canonical", "next", "prev", "alternate", "license", "author"}


class _Loads(HTMLParser):
    """Collects what a browser would fetch from elsewhere to show a page; links to follow are no loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "a" or (tag == "link" and given.get("rel") in _LINK_KINDS):
            return
        for name in ("src", "href", "data", "poster", "srcset"):
            places = given.get(name, "").split(",") if name == "srcset" else [given.get(name, "")]
            self.found += [f"<{tag} {name}={place.strip()}>" for place in places if _ELSEWHERE.match(place)]
        self.found += [f"style {place}" for place in _IN_CSS.findall(given.get("style", ""))]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "style":
            self.found += [f"<style> {place}" for place in _IN_CSS.findall(data)]


def loads(site: Path) -> list[str]:
    """What pages and style sheets load from elsewhere, each as `file: what`."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            page = _Loads()
            page.feed(path.read_text(encoding="utf-8"))
            found += [f"{path.relative_to(site)}: {one}" for one in page.found]
        elif path.suffix == ".css":
            places = _IN_CSS.findall(path.read_text(encoding="utf-8"))
            found += [f"{path.relative_to(site)}: {place}" for place in places]
    return found


def main() -> None:
    """Check the site in the folder that is given; end with 1 where something is loaded from elsewhere."""
    site = Path(sys.argv[1])
    pages = len(list(site.rglob("*.html")))
    if not pages:
        sys.exit(f"{site} holds no page: nothing was checked.")
    found = loads(site)
    if found:
        sys.exit("\n".join(["The site loads from elsewhere:", *found]))
    sys.stdout.write(f"{pages} pages, nothing loaded from elsewhere\n")


if __name__ == "__main__":
    main()
