"""Whether the licences of what is installed allow an Apache-2.0 program to depend on it."""

from __future__ import annotations

import json
import re
import sys
from typing import NamedTuple

ALLOWED = frozenset(
    {
        "0BSD",
        "3-Clause BSD License",
        "Apache 2.0",
        "Apache 2.0 License",
        "Apache License 2.0",
        "Apache Software License",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD License",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "ISC License (ISCL)",
        "MIT",
        "MIT License",
        "MIT-CMU",
        "MPL-2.0",
        "Mozilla Public License 2.0 (MPL 2.0)",
        "PSF-2.0",
        "Python Software Foundation License",
        "Unlicense",
        "Zlib",
        "mit",
    }
)
"""Permissive licences, and MPL-2.0, which binds only changes to its own files."""

EXCEPTIONS = {
    "atheris": "Apache-2.0 by its repository, not in its metadata; tests only",
    "axe-playwright-python": "MIT by its repository, not in its metadata; carries axe-core (MPL-2.0); tests only",
    "chardet": "LGPL-2.1 or later: imported as a library of its own, unchanged, never copied",
    "simple-parsing": "MIT: its metadata holds the whole text instead of the name",
    "word2number": "MIT: its metadata holds the whole text instead of the name",
}
"""What has no allowed name in its metadata, and why it may stay."""


class Installed(NamedTuple):
    """A distribution, and what its metadata says of its licence."""

    name: str
    licence: str


def allowed(licence: str) -> bool:
    """Whether an expression of licences can be met with allowed ones alone.

    Args:
        licence: SPDX with AND and OR, or names with semicolons (all of which are taken to hold).
    """
    parts = re.split(r"\s+AND\s+|;", licence)
    return all(any(one.strip() in ALLOWED for one in re.split(r"\s+OR\s+", part)) for part in parts)


def refused(installed: list[Installed]) -> list[str]:
    """What may not be depended on, and exceptions that nothing needs any more, one line each."""
    lines = [
        f"{one.name}: {' '.join(one.licence.split())[:80]}"
        for one in installed
        if one.name.lower() not in EXCEPTIONS and not allowed(one.licence)
    ]
    needless = [one.name for one in installed if one.name.lower() in EXCEPTIONS and allowed(one.licence)]
    return lines + [f"{name}: needs no exception any more" for name in needless]


def main() -> None:
    """Read pip-licenses' JSON from standard input; end with 1 where something is refused."""
    installed = [Installed(one["Name"], one["License"]) for one in json.load(sys.stdin)]
    if not installed:
        sys.exit("No distribution was listed: nothing was checked.")
    lines = refused(installed)
    if lines:
        sys.exit("\n".join(["Licences that nobody has allowed (recipes/licences.py):", *lines]))
    sys.stdout.write(f"{len(installed)} distributions, each with an allowed licence or a reason\n")


if __name__ == "__main__":
    main()
