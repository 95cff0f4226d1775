"""Every page of hostile runs, as the server wrote it: payloads are text, looking changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from browser import ADDRESS
from onesense.web.app import create_app
from onesense.web.workspace import Workspace
from web.addresses import INSIDES, known_names, readable, reader
from web.hostile_runs import make_hostile_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_run: Path) -> Path:
    return make_hostile_runs(tmp_path_factory.mktemp("hostile") / "onesense-runs", demo_run / "demo")


@pytest.fixture(scope="module")
def asking(folder: Path) -> Iterator[TestClient]:
    with TestClient(
        create_app(Workspace([folder], folder), warm=False),
        base_url=ADDRESS,
        headers={"accept": "text/html"},
        raise_server_exceptions=False,
    ) as made:
        yield made


@dataclass
class Looked:
    """What came of reading every address once."""

    names: dict[str, list[str]]
    answers: dict[str, Response]
    changed: set[str]
    jobs: list[object]


@pytest.fixture(scope="module")
def looked(asking: TestClient, folder: Path) -> Looked:
    names = known_names(reader(asking))
    before = state(folder)
    schema = asking.get("/api/openapi.json").json()
    answers = {address: asking.get(address) for address in readable(schema, names)}
    changed = {name for name, _ in before.items() ^ state(folder).items()}
    return Looked(names, answers, changed, asking.get("/work.json").json()["jobs"])


def state(folder: Path) -> dict[str, str]:
    """Hashes of all files; those of SQLite's locks are no content."""
    return {
        str(path): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


class Watching(HTMLParser):
    """Notes what no page of ours has: scripts in the page, handlers, images, styles, odd addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = {name: value or "" for name, value in attrs}
        script = tag == "script" and not given.get("src", "").startswith("/static/")
        odd = [given[name] for name in ("href", "src", "action") if name in given and not _ours(given[name])]
        handlers = [name for name in given if name.startswith("on") or name in ("style", "srcdoc")]
        if script or odd or handlers or tag in ("img", "iframe", "object", "embed", "base", "style"):
            self.found.append(f"<{tag} {attrs}>")


def _ours(address: str) -> bool:
    """Whether an address stays here, or leads where the project's reports lead."""
    return address.startswith(("/", "#", "?", "https://")) and not address.startswith("//")


def test_every_page_of_hostile_runs_is_text(looked: Looked) -> None:
    for one in ("run", "recipe", "dictionary", "benchmark"):
        assert looked.names[one], one
    pages = set()
    for address, answer in looked.answers.items():
        assert answer.status_code < 500, (address, answer.text[:500])
        assert not INSIDES.search(answer.text), address
        if answer.headers["content-type"].startswith("text/html") and "/files/" not in address:
            watching = Watching()
            watching.feed(answer.text)
            assert watching.found == [], address
            assert {"html", "main", "footer"} <= watching.tags, address
            assert "49{%" not in answer.text, address
            assert "\u202e" not in answer.text, address
            if answer.status_code == 200:
                pages.add(re.sub(r"\d+", "N", address))
    for part in ("/features", "/features/N", "/audit", "/debias", "/study", "/senses", "/senses/features/N"):
        assert any(one.endswith(part) for one in pages), part


def test_looking_at_everything_changes_nothing(looked: Looked) -> None:
    assert looked.changed == set()
    assert looked.jobs == []


def test_files_to_keep_are_kept_and_hold_no_formula(looked: Looked) -> None:
    files = {
        address: answer
        for address, answer in looked.answers.items()
        if answer.status_code == 200 and ("/files/" in address or address.endswith(".csv"))
    }
    assert {address.rpartition(".")[2] for address in files} == {"csv", "html", "json"}
    for address, answer in files.items():
        assert answer.headers["content-disposition"].startswith("attachment;"), address
        assert not address.endswith(".csv") or not re.search(r"(^|[\n,])[=@]", answer.text), address


def test_pages_without_runs_say_what_to_do(tmp_path: Path) -> None:
    with TestClient(create_app(Workspace([tmp_path], tmp_path), warm=False), base_url=ADDRESS) as asking:
        schema = asking.get("/api/openapi.json").json()
        for path, operations in schema["paths"].items():
            if "get" in operations and "{" not in path and not path.startswith("/api/"):
                answer = asking.get(path)
                assert answer.status_code == 200, (path, answer.text)
                assert asking.head(path).status_code in (200, 405)
    assert list(tmp_path.iterdir()) == []
