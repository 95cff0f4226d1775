"""Whether the packages in `dist` hold what they should, and nothing that was left lying about."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
IN_SOURCES = (
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "benchmarks/__init__.py",
    "docs/tutorial.md",
    "mkdocs.yml",
    "notebooks/original_walk_through.ipynb",
    "pyproject.toml",
    "recipes/distributions.py",
    "requirements.lock",
    "src/onesense/__init__.py",
    "tests/test_docs.py",
)
_LEFT_OVER_NAMES = {"__pycache__", "build", "dist", "onesense-runs", "shared", ".git", ".env", "site"}
_LEFT_OVER_ENDINGS = (".pyc", ".pyo", ".log", ".sqlite", ".egg-info", ".orig", ".swp")
_LARGEST = 40_000_000
"""Bytes: the demo dictionaries, in float16, make most of it."""


class Packages(NamedTuple):
    """What `python -m build` made."""

    sources: Path
    wheel: Path


def packages(folder: Path) -> Packages:
    """The one source archive and the one wheel of a folder."""
    sources, wheels = list(folder.glob("*.tar.gz")), list(folder.glob("*.whl"))
    if len(sources) != 1 or len(wheels) != 1:
        sys.exit(f"{folder} should hold one source archive and one wheel: run `make dist`.")
    return Packages(sources[0], wheels[0])


def names_in(package: Path) -> set[str]:
    """Files of a package; those of a source archive without its own folder."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return {name for name in wheel.namelist() if not name.endswith("/")}
    with tarfile.open(package) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def package_files(root: Path = ROOT) -> set[str]:
    """Every file of the Python package, as wheels name it."""
    found = (path for path in (root / "src" / "onesense").rglob("*") if path.is_file())
    return {path.relative_to(root / "src").as_posix() for path in found if "__pycache__" not in path.parts}


def left_over(names: set[str]) -> list[str]:
    """Files that no package should hold."""
    return sorted(
        name
        for name in names
        if _LEFT_OVER_NAMES & set(PurePosixPath(name).parts)
        or any(part.startswith(".venv") for part in PurePosixPath(name).parts)
        or name.endswith(_LEFT_OVER_ENDINGS)
    )


def problems(made: Packages, root: Path = ROOT) -> list[str]:
    """What is wrong with the two packages, one line each."""
    sources, wheel = names_in(made.sources), names_in(made.wheel)
    inside = package_files(root)
    lines = [f"{made.sources.name} lacks {name}" for name in IN_SOURCES if name not in sources]
    lines += [
        f"{made.sources.name} lacks src/{name}" for name in sorted(inside) if f"src/{name}" not in sources
    ]
    lines += [f"{made.wheel.name} lacks {name}" for name in sorted(inside - wheel)]
    stray = {name for name in wheel - inside if ".dist-info/" not in name}
    lines += [f"{made.wheel.name} holds {name}" for name in sorted(stray)]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel):
        lines.append(f"{made.wheel.name} lacks the licence")
    lines += [f"{one.name} holds {name}" for one in made for name in left_over(names_in(one))]
    lines += [f"{one.name} is too large" for one in made if one.stat().st_size > _LARGEST]
    return lines


def main() -> None:
    """Check the packages in the folder that is given; end with 1 where something is wrong."""
    made = packages(Path(sys.argv[1]))
    lines = problems(made)
    if lines:
        sys.exit("\n".join(lines))
    for one in made:
        size = one.stat().st_size / 1e6
        sys.stdout.write(f"{one.name}: {len(names_in(one))} files, {size:.1f} MB, nothing left over\n")


if __name__ == "__main__":
    main()
