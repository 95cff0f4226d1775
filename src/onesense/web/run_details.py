"""What a run was made from and what lies in its folder, as rows that a page can show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

MOST_FILES = 200
"""Lines of the list of files."""

_MOST_LOOKED_AT = 20_000
_OF_READERS = ("-shm", "-wal")  # SQLite keeps them beside a catalogue while somebody reads it
_DEPTH = 6
_MOST_FACTS = 400
_LONGEST = 2000


class Fact(NamedTuple):
    """A setting.

    Attributes:
        name: Its name, with dots where it stands inside another.
        value: As text.
    """

    name: str
    value: str


class Files(NamedTuple):
    """A file, or all that lie in a folder.

    Attributes:
        name: Name; that of a folder ends in a slash.
        count: How many files.
        size: Bytes of all of them.
    """

    name: str
    count: int
    size: int


def facts(values: Any) -> list[Fact]:
    """Settings inside one another as one list; nothing where it is none."""
    if not isinstance(values, Mapping):
        return []
    return [found for found, _ in zip(_facts(values, "", _DEPTH), range(_MOST_FACTS), strict=False)]


def files(folder: Path) -> list[Files]:
    """What lies in a run folder, by name; a folder inside is one line. What goes away meanwhile is left out."""
    found: dict[str, list[int]] = {}
    for path in _inside(folder):
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts) or path.name.endswith(_OF_READERS):
            continue
        try:
            if path.is_symlink() or not path.is_file():
                continue
            size = path.stat().st_size
        except OSError:
            continue
        name = str(inside) if len(inside.parts) == 1 else f"{inside.parts[0]}/"
        count = found.setdefault(name, [0, 0])
        count[0], count[1] = count[0] + 1, count[1] + size
    listed = [Files(name, count, size) for name, (count, size) in found.items()]
    return sorted(listed, key=lambda one: (one.name.endswith("/"), one.name))[:MOST_FILES]


def _inside(folder: Path) -> Iterator[Path]:
    walk = folder.rglob("*")
    for _ in range(_MOST_LOOKED_AT):
        try:
            path = next(walk, None)
        except OSError:  # the folder went away
            return
        if path is None:
            return
        yield path


def _facts(values: Mapping[str, Any], before: str, depth: int) -> Iterator[Fact]:
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value and depth > 1:
            yield from _facts(value, f"{name}.", depth - 1)
        else:
            yield Fact(name[:_LONGEST], _told(value)[:_LONGEST])


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ", ".join(map(str, value)) or "none"
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "(too deep to show)"
