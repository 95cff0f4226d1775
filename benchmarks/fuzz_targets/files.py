"""A target that reads a folder of files, one or two of which are changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.fuzz_targets.mutation import Choices, change_of

Target = Callable[[bytes], None]
"""Reads what bytes make of good files; raises OnesenseError where they are bad, and nothing else."""


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class ChangedFolder:
    """Good files, of which each call changes one or two, for a reader.

    Args:
        folder: Where they are written; its names can matter to the reader.
        whole: The good files.
        read: The reader.

    Attributes:
        changed: Names of the files that the call at hand has changed.
    """

    def __init__(self, folder: Path, whole: Mapping[str, bytes], read: Callable[[Path], object]) -> None:
        self._folder, self._whole, self._read = folder, dict(whole), read
        self.changed: tuple[str, ...] = ()
        self._names = sorted(self._whole)
        self._write(self._whole)

    def __call__(self, data: bytes) -> None:
        """See ``Target``."""
        choices = Choices(data)
        changed: dict[str, bytes] = {}
        for _ in range(1 + choices.below(2)):
            name = choices.of(self._names)
            changed[name] = change_of(name)(choices, self._whole[name])
        self.changed = tuple(changed)
        self._write(changed)
        try:
            self._read(self._folder)
        finally:
            self._clean(changed)

    def _write(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def _clean(self, changed: Mapping[str, bytes]) -> None:
        """Put the good files back; what a reader left beside them goes."""
        for path in self._folder.rglob("*"):
            if path.is_file() and path.relative_to(self._folder).as_posix() not in self._whole:
                path.unlink()
        self._write({name: self._whole[name] for name in changed})
