"""Install wheel and source archive where nothing else is, with every Python that there is, and look whether they work.

What a version, its import and its pages need is installed with exact versions; the large libraries (torch) are not, so
this says nothing of them with another Python than that of `make test`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from recipes.distributions import ROOT, package_files, packages

_VERSIONS = ("3.11", "3.12", "3.13")
_STARTING = (
    "typer",
    "setproctitle",
    "shellingham",
    "rich",
    "annotated-doc",
    "markdown-it-py",
    "mdurl",
    "Pygments",
)
_BUILDING = ("hatchling",)
_SEEN = """
import importlib.metadata, json, pathlib, onesense
folder = pathlib.Path(onesense.__file__).parent
files = [str(one.relative_to(folder.parent).as_posix()) for one in folder.rglob("*") if one.is_file()]
print(json.dumps([onesense.__version__, importlib.metadata.version("onesense"), str(folder), files]))
"""


def pythons() -> dict[str, Path]:
    """A working interpreter for each supported version that this machine has."""
    found = {}
    for version in _VERSIONS:
        for path in _candidates(version):
            told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if told.returncode == 0 and told.stdout.startswith(f"Python {version}."):
                found[version] = path
                break
    return found


def _candidates(version: str) -> Iterator[Path]:
    """Where that version may be: on the path, or among those that pyenv manages (its shims may lead nowhere)."""
    if on_path := shutil.which(f"python{version}"):
        yield Path(on_path)
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False).stdout.strip()
        yield from sorted(Path(root).glob(f"versions/{version}.*/bin/python{version}"), reverse=True)


def pinned(names: tuple[str, ...], lock: Path) -> list[str]:
    """The lines of a lock that name these."""
    lines = {line.partition("==")[0].lower(): line for line in lock.read_text(encoding="utf-8").splitlines()}
    return [lines[name.lower()] for name in names]


def check(package: Path, python: Path, folder: Path) -> str:
    """Install a package in a fresh environment and use it.

    Returns:
        What was seen, in words.
    """
    run([python, "-m", "venv", folder])
    inside = folder / "bin" / "python"
    pip = [inside, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    run([*pip, "--no-deps", *pinned(_STARTING, ROOT / "requirements.lock")])
    if package.suffix != ".whl":
        run([*pip, *pinned(_BUILDING, ROOT / "requirements.lock")])
        pip.append("--no-build-isolation")
    run([*pip, "--no-deps", package])

    version, metadata, where, files = json.loads(run([inside, "-c", _SEEN], cwd=folder))
    if not Path(where).is_relative_to(folder):
        sys.exit(f"onesense was imported from {where}, not from {folder}.")
    told = run([folder / "bin" / "onesense", "--version"], cwd=folder).strip()
    if not (told == f"onesense {version}" and version == metadata and re.match(r"\d+\.\d+", version)):
        sys.exit(f"`onesense --version` says {told!r}, the package {version}, its metadata {metadata}.")
    run([folder / "bin" / "onesense", "--help"], cwd=folder)
    missing = package_files() - set(files)
    if missing:
        sys.exit(f"Not installed: {', '.join(sorted(missing))}")
    run([inside, "-W", "error", "-m", "compileall", "-q", "-f", where])
    return f"{told}, {len(package_files())} files, all of them compile"


def run(words: list[str | Path], cwd: Path | None = None) -> str:
    """What a command prints; where it fails, the end of this one too."""
    done = subprocess.run([str(one) for one in words], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(str(one) for one in words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Check both packages with every Python; end with 1 where one does not work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="What `make dist` filled.")
    made = packages(parser.parse_args().folder.resolve())
    found = pythons()
    if not found:
        sys.exit(f"This machine has none of Python {', '.join(_VERSIONS)}: nothing was checked.")
    for version, python in found.items():
        for package in made:
            with tempfile.TemporaryDirectory() as folder:
                seen = check(package, python, Path(folder).resolve())
            sys.stdout.write(f"Python {version}, {package.name}: {seen}\n")
            sys.stdout.flush()
    for version in _VERSIONS:
        if version not in found:
            sys.stdout.write(f"Python {version}: not on this machine, not checked\n")


if __name__ == "__main__":
    main()
