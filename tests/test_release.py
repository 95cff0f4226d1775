"""What the checks of packages and licences refuse."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from recipes.distributions import IN_SOURCES, Packages, left_over, package_files, problems
from recipes.licences import EXCEPTIONS, Installed, allowed, refused
from recipes.release_check import pinned, pythons

ROOT = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one module."""
    folder = tmp_path / "project" / "src" / "onesense"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "page.html").write_text("", encoding="utf-8")
    (folder / "__pycache__" / "x.pyc").write_text("", encoding="utf-8")
    return tmp_path / "project"


def made(folder: Path, sources: set[str], wheel: set[str]) -> Packages:
    """Packages that hold these files."""
    (folder / "empty").touch()
    with tarfile.open(folder / "onesense-1.tar.gz", "w:gz") as archive:
        for name in sources:
            archive.add(folder / "empty", f"onesense-1/{name}")
    with zipfile.ZipFile(folder / "onesense-1.whl", "w") as archive:
        for name in wheel:
            archive.writestr(name, "")
    return Packages(folder / "onesense-1.tar.gz", folder / "onesense-1.whl")


def test_what_packages_lack_or_hold_too_much_is_named(root: Path, tmp_path: Path) -> None:
    inside = package_files(root)
    assert inside == {"onesense/__init__.py", "onesense/page.html"}
    sources = {*IN_SOURCES, *(f"src/{name}" for name in inside)}
    wheel = {*inside, "onesense-1.dist-info/METADATA", "onesense-1.dist-info/licenses/LICENSE"}
    assert problems(made(tmp_path, sources, wheel), root) == []
    wrong = made(
        tmp_path, {*sources, "build/x.o"} - {"LICENSE"}, {*wheel, "tests/x.py"} - {"onesense/page.html"}
    )
    assert problems(wrong, root) == [
        "onesense-1.tar.gz lacks LICENSE",
        "onesense-1.whl lacks onesense/page.html",
        "onesense-1.whl holds tests/x.py",
        "onesense-1.tar.gz holds build/x.o",
    ]


def test_left_overs() -> None:
    wanted = {"src/onesense/demo/sample.jsonl", ".gitignore", "docs/images/a.png", "tests/build.py"}
    stray = {
        "a/__pycache__/x.py",
        "x.pyc",
        ".venv-tools/bin/python",
        ".env",
        "shared/data/a.csv",
        "dist/a.whl",
    }
    assert left_over(wanted | stray) == sorted(stray)


@pytest.mark.parametrize(
    ("licence", "fine"),
    [
        ("MIT", True),
        ("MPL-2.0 AND MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("Apache-2.0 AND GPL-3.0-only", False),
        ("Apache Software License; BSD License", True),
        ("MIT License; GNU General Public License v3 (GPLv3)", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_licences(licence: str, fine: bool) -> None:
    assert allowed(licence) is fine


def test_an_exception_that_nothing_needs_is_told() -> None:
    name = next(iter(EXCEPTIONS))
    assert refused([Installed(name, "UNKNOWN"), Installed("new", "AGPL-3.0"), Installed("torch", "MIT")]) == [
        "new: AGPL-3.0"
    ]
    assert refused([Installed(name, "MIT")]) == [f"{name}: needs no exception any more"]


def test_a_python_of_this_machine_is_found_and_runs() -> None:
    found = pythons()
    assert found
    assert set(found) <= {"3.11", "3.12", "3.13"}


def test_locks_name_exact_versions_of_what_is_asked_for() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    for group, lock in (("docs", "requirements-docs.lock"), ("release", "requirements-release.lock")):
        lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()[1:]
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), lock
        names = tuple(re.split(r"[\[<>=]", asked)[0] for asked in groups[group])
        assert len(pinned(names, ROOT / lock)) == len(names)
