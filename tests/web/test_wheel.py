"""The wheel by itself: installed where nothing else of the project is, with no network, every page loads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from web.addresses import known_names, readable

ROOT = Path(__file__).parents[2]
_NOWHERE = "http://127.0.0.1:9"
_LOADED = re.compile(r"""(?:src|href)="(/[^"#?]+)|(?:from|import)\s+"(\./[^"]+)\"""")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built without looking for anything."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel, that sees the libraries of this one but not the project."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet", "--no-warn-script-location"]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *options]
    subprocess.run([*pip, str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder that is named in a .pth has its own .pth files left alone: the project's is one of them.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def own_server(installed: Path, demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`onesense serve` of the wheel, in an empty folder, with no way to the network."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ONESENSE"))
    }
    offline = {"HF_HUB_OFFLINE": "1", "http_proxy": _NOWHERE, "https_proxy": _NOWHERE, "no_proxy": ""}
    command = [str(installed.parent / "onesense"), "serve", str(demo_run), "--port", "0"]
    empty = tmp_path_factory.mktemp("empty")
    process = subprocess.Popen(
        command, cwd=empty, env=environment | offline, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        told = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", told)):
            line = process.stderr.readline()
            assert line, f"it ended: {told}"
            told += line
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield found[0]
    finally:
        process.terminate()
        process.wait(20)


def ask(server: str, address: str) -> tuple[int, bytes]:
    """Status and body."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(server + address, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_wheel_is_what_is_imported(installed: Path, tmp_path: Path) -> None:
    code = "import onesense; print(onesense.__file__)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    told = subprocess.run(
        [str(installed), "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(told.stdout.strip()).is_relative_to(installed.parents[1])


@pytest.mark.parametrize("folder", ["web/templates", "web/static", "report/templates"])
def test_the_wheel_holds_what_pages_are_made_of(wheel: Path, folder: str) -> None:
    there = ROOT / "src" / "onesense" / folder
    wanted = {path.relative_to(ROOT / "src").as_posix() for path in there.rglob("*") if path.is_file()}
    assert wanted
    with zipfile.ZipFile(wheel) as archive:
        assert wanted <= set(archive.namelist())


def test_every_page_and_all_that_it_loads_is_there(own_server: str) -> None:
    schema = json.loads(ask(own_server, "/api/openapi.json")[1])
    names = known_names(lambda address: json.loads(ask(own_server, address)[1]))
    assert names["run"]
    loaded: set[str] = set()
    shown = set()
    for address in readable(schema, names | {"feature": ["3748"]}):
        status, body = ask(own_server, address)
        # runs of one command have no page of another's
        assert status == 200 or (status == 404 and address.count("/") > 1), (status, address, body[:300])
        if status == 200:
            shown.add(address)
            if body.startswith(b"<!DOCTYPE html>"):
                loaded |= {found for pair in _LOADED.findall(body.decode()) for found in pair if found}
    assert {"/", "/features", "/steer", "/tune", "/reports", "/senses", "/work"} <= shown
    assert {"/runs/demo", "/runs/demo/features", "/runs/demo/features/3748"} <= shown
    files = {address for address in loaded if address.startswith("/static/")}
    assert "/static/onesense.css" in files
    while files:
        address = files.pop()
        status, body = ask(own_server, address)
        assert status == 200, address
        if address.endswith(".js"):
            imported = [found[1] for found in _LOADED.findall(body.decode()) if found[1]]
            files |= {f"/static/{name.removeprefix('./')}" for name in imported} - loaded
            loaded |= {f"/static/{name.removeprefix('./')}" for name in imported}
