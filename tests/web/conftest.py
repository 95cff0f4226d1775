"""A real server on real runs, and a browser that fails on what a page must not do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi.testclient import TestClient
from filelock import FileLock
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, sync_playwright

from browser import ADDRESS, BROWSER_FLAGS, DESK, GARDENS, asking, chromium_path
from onesense.store.catalog import Catalog
from onesense.store.explanations import ExplanationRow, ScoreRow, write_explanations, write_scores
from onesense.web.app import create_app
from onesense.web.workspace import Workspace
from web.report_runs import make_runs

_ONESENSE = [sys.executable, "-c", "from onesense.cli.main import main; main()"]
_ON_LOOPBACK = re.compile(r"^(http://127\.0\.0\.1:\d+/|data:|blob:)")


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder `onesense-runs` with a run of `onesense extract` of the demo: contexts, some explanations.

    One worker makes it, and each has a copy. ONESENSE_DEMO_RUNS names such a folder that was made before.
    """
    folder = tmp_path_factory.mktemp("web") / "onesense-runs"
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    made = Path(os.environ.get("ONESENSE_DEMO_RUNS", shared / "demo-runs"))
    with FileLock(shared / "demo-runs.lock"):
        if not made.exists():
            _make_demo_run(shared / "demo-runs-begun")
            (shared / "demo-runs-begun").rename(made)
    shutil.copytree(made, folder)
    return folder


def _make_demo_run(folder: Path) -> None:
    run = folder / "demo"
    extract = ["extract", "demo", "--run-folder", str(run), "--max-tokens", "3000", "--quiet"]
    done = subprocess.run([*_ONESENSE, *extract], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Catalog(run / "catalog.sqlite") as catalog:
        write_explanations(
            catalog,
            [
                ExplanationRow(
                    GARDENS, method="llm", model="reader", text="places to sit: gardens and parks"
                ),
                ExplanationRow(10, method="lexical", text="third-person pronouns: she, her"),
                ExplanationRow(11, method="llm", model="reader", status="refused", detail="would not say"),
            ],
        )
        write_scores(
            catalog,
            [ScoreRow(GARDENS, method="llm", model="reader", kind="detection", judge="reader", value=0.81,
                      low=0.74, high=0.88, auroc=0.85, baseline=0.51, items=40)],
        )  # fmt: skip


@pytest.fixture
def client(demo_run: Path) -> Iterator[TestClient]:
    """Asks the application without a browser; carries the header that changes need."""
    app = create_app(Workspace([demo_run], demo_run), warm=False)
    with TestClient(app, base_url=ADDRESS, headers={"x-onesense": "1"}) as made:
        yield made


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., str]]:
    """Starts `onesense serve` on a free port and gives its address."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, cwd: Path) -> str:
        process = subprocess.Popen(
            [*_ONESENSE, "serve", *arguments, "--port", "0", "--no-warm"],
            cwd=cwd,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "ONESENSE_DATA"}
            | {"HF_HUB_OFFLINE": "1"},
        )
        running.append(process)
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                threading.Thread(target=process.stderr.read, daemon=True).start()
                return found[0]
        raise AssertionError(f"onesense serve ended with {process.wait()}:\n{''.join(told)}")

    yield start
    for process in running:
        process.terminate()
    for process in running:
        process.wait(20)


@pytest.fixture(scope="session")
def server(demo_run: Path, start_server: Callable[..., str]) -> str:
    """The address of a server on the demo's run."""
    return start_server(str(demo_run), cwd=demo_run.parent)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Drives browsers; its event loop must not outlive the module, other tests have their own."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Chromium, as Debian packages it."""
    started = playwright.chromium.launch(executable_path=chromium_path(), args=BROWSER_FLAGS)
    yield started
    started.close()


@pytest.fixture
def faults() -> list[str]:
    """What pages did that they must not, in this test; must be empty at its end."""
    return []


@pytest.fixture
def page(browser: Browser, faults: list[str]) -> Iterator[Page]:
    """A page of a desk; the test fails where it asks elsewhere, logs an error, or breaks its own policy."""
    # Colours on their way from one theme to the other are neither's.
    context = browser.new_context(viewport=DESK, reduced_motion="reduce")

    def allowed(request: Request) -> bool:
        return bool(_ON_LOOPBACK.match(request.url))

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"console {message.type}: {message.text}")

    context.on("request", lambda one: None if allowed(one) else faults.append(f"asked for {one.url}"))
    context.route(lambda url: not _ON_LOOPBACK.match(url), lambda route: route.abort())
    context.add_init_script(
        "addEventListener('securitypolicyviolation', (event) =>"
        " console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI));"
    )
    opened = context.new_page()
    opened.on("console", console)
    opened.on("pageerror", lambda error: faults.append(f"error: {error}"))
    opened.set_default_timeout(60_000)
    yield opened
    context.close()
    assert faults == []


@pytest.fixture
def accessible() -> Callable[[Page], None]:
    """Fails where axe finds a violation of WCAG 2 A or AA on the page."""
    axe = Axe()

    def check(page: Page) -> None:
        found = axe.run(
            page,
            options={
                "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
            },
        )
        told = [
            f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
            for one in found.response["violations"]
        ]
        assert told == [], "\n".join(told)

    return check


@pytest.fixture
def start_attacker() -> Iterator[Callable[[str], str]]:
    """Serves a page of another origin that tries what a page can try against a server on loopback."""
    servers: list[HTTPServer] = []

    def start(target: str) -> str:
        body = _ATTACK.replace("TARGET", target).encode()

        class Attacker(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        made = HTTPServer(("127.0.0.1", 0), Attacker)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        servers.append(made)
        return f"http://127.0.0.1:{made.server_port}/"

    yield start
    for one in servers:
        one.shutdown()


_ATTACK = """<!doctype html><iframe src="TARGET/"></iframe><script>
window.tried = 0; window.read = [];
const attempt = (address, options) => fetch("TARGET" + address, options)
  .then((answer) => answer.text()).then((text) => { if (text) window.read.push(text); }).catch(() => {})
  .finally(() => { window.tried += 1; });
attempt("/work.json", {});
attempt("/work.json", {mode: "no-cors"});
attempt("/api/steer", {method: "POST", mode: "no-cors", body: '{"prompt":"x"}'});
const headers = {"content-type": "application/json", "x-onesense": "1"};
attempt("/api/steer", {method: "POST", body: '{"prompt":"x"}', headers});
</script>"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with a report of every kind."""
    return make_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def ask(made: Path) -> Iterator[TestClient]:
    """Asks an application on them."""
    with asking(made) as client:
        yield client


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """Copies of them that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "runs"))
