"""The folder of one run: its configuration, its finished shards, its results.

::

    run.json                             schema version, command, configuration, provenance, fingerprint
    <name>.safetensors                   results
    contexts/block-NNNN.safetensors      results in parts
    partials/shard-NNNN.safetensors      units of resume
    partials/shard-NNNN.json             written after its shard: the shard counts from then on

No file holds a time or a path, so a run that was killed and resumed ends in the bytes of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesense.errors import FormatError, IncompatibleError, NotFoundError
from onesense.store.atomic import (
    TEMPORARY_SUFFIX,
    read_json,
    read_tensors,
    remove_leftovers,
    write_json,
    write_tensors,
)
from onesense.store.disk_errors import disk_errors
from onesense.store.lock import LOCK_NAME, exclusive_lock
from onesense.store.progress import forget_progress
from onesense.store.provenance import file_sha256
from onesense.store.schema import SCHEMA_VERSION, check_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onesense.store.tensor_file import Array, Tensors

RUN_FILE = "run.json"
CATALOG_FILE = "catalog.sqlite"
PARTIALS = "partials"

_RESULT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}(/[a-z0-9][a-z0-9_-]{0,99})?")
# What decides the numbers. Package versions and the platform are recorded but do not forbid a resume.
_IDENTITY = ("inputs", "seeds")
_DESCRIPTION = {"schema_version", "command", "configuration", "provenance", "fingerprint"}
_SEAL = "sha256"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run folder on disk. Reading needs no lock; write inside :meth:`lock`.

    Attributes:
        path: The folder.
        command: The command that made it, such as "extract".
        configuration: Its settings, as JSON values.
        provenance: What it was made from; see :func:`onesense.store.provenance.provenance`.
        fingerprint: SHA-256 of command, configuration, inputs and seeds; every shard carries it.
    """

    path: Path
    command: str
    configuration: Mapping[str, Any]
    provenance: Mapping[str, Any]
    fingerprint: str

    @classmethod
    def create_or_resume(
        cls,
        path: Path | str,
        *,
        command: str,
        configuration: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> RunFolder:
        """Make the folder, or go on with one that the same command and configuration made.

        Raises:
            IncompatibleError: The folder holds a run of another command, configuration, input or seed, of a
                newer onesense, or files that are no run at all.
            LockedError: Another process writes to it.
            FormatError: Its run.json is damaged.
            StorageError: It cannot be written.
        """
        path = Path(path)
        wanted = _description(command, configuration, provenance)
        _refuse_foreign(path)
        with exclusive_lock(path):
            if (path / RUN_FILE).exists():
                run = cls.open(path)
                _refuse_other(run, wanted)
                return run
            remove_leftovers(path)
            write_json(path / RUN_FILE, wanted)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Look at a run, also while a command writes to it.

        Raises:
            NotFoundError: No run is there.
            FormatError: Its run.json is damaged.
            IncompatibleError: A newer onesense made it.
        """
        path = Path(path)
        with disk_errors(path, action="read"):
            exists = (path / RUN_FILE).exists()
        if not exists:
            raise NotFoundError(
                f"{path} is not a run folder: it has no {RUN_FILE}.",
                hint="Give the folder that an onesense command wrote, with --run-folder.",
            )
        again = f"Delete the folder {path} and run the command again."
        try:
            found = read_json(path / RUN_FILE)
            if not isinstance(found, dict):
                raise FormatError(f"{path / RUN_FILE} does not describe a run.")
            check_schema(found.get("schema_version"), where=str(path / RUN_FILE))
        except FormatError as error:  # without this file nobody can tell what the others belong to
            raise FormatError(error.message, hint=again) from error
        try:
            run = cls(
                path,
                command=str(found["command"]),
                configuration=dict(found["configuration"]),
                provenance=dict(found["provenance"]),
                fingerprint=str(found["fingerprint"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{path / RUN_FILE} does not describe a run: {error} is missing or of another kind.",
                hint=again,
            ) from error
        if run.fingerprint != _fingerprint(run.command, run.configuration, run.provenance) or not _sealed(
            found
        ):
            raise FormatError(f"{path / RUN_FILE} was changed after it was written.", hint=again)
        return run

    @property
    def catalog_path(self) -> Path:
        """Where the catalogue of this run lives."""
        return self.path / CATALOG_FILE

    def lock(self) -> AbstractContextManager[None]:
        """Be the only writer; also clears away what a killed writer left half-written.

        Raises:
            LockedError: Another process writes; the message names it.
        """
        return _locked_and_clean(self.path)

    def write_shard(self, index: int, tensors: Tensors) -> None:
        """Keep a finished unit of work. It counts only once its sidecar is there too.

        Raises:
            StorageError: The disk is full, read-only or out of reach.
        """
        digest = write_tensors(self._shard(index), tensors)
        write_json(self._sidecar(index), {"run": self.fingerprint, "sha256": digest})

    def shard_done(self, index: int) -> bool:
        """Whether the shard is there, whole, and of this run."""
        try:
            sidecar = read_json(self._sidecar(index))
            found = (sidecar["run"], sidecar["sha256"])
            return found == (self.fingerprint, file_sha256(self._shard(index)))
        except (NotFoundError, FormatError, KeyError, TypeError):
            return False

    def read_shard(self, index: int) -> dict[str, Array] | None:
        """Tensors of a finished shard, or None where it must be done (again)."""
        if not self.shard_done(index):
            return None
        try:
            return read_tensors(self._shard(index), verify=False)
        except FormatError:
            return None

    def clear_partials(self) -> None:
        """Remove every shard, once the results that were merged from them are written.

        Raises:
            StorageError: They cannot be removed.
        """
        folder = self.path / PARTIALS
        with disk_errors(folder, action="remove"):
            if folder.exists():
                shutil.rmtree(folder)

    def result_path(self, name: str, suffix: str = ".safetensors") -> Path:
        """Path of a result, such as "lens" or "contexts/block-0003".

        Raises:
            NotFoundError: Not a name that a result can have (this also keeps readers inside the folder).
        """
        if not _RESULT_NAME.fullmatch(name):
            raise NotFoundError(f"{name!r} is not the name of a result.")
        return self.path / f"{name}{suffix}"

    def has_result(self, name: str) -> bool:
        """Whether the result is there; results appear whole, so it is then complete."""
        return self.result_path(name).exists()

    def write_result(self, name: str, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Path:
        """Write tensors as a result of this run.

        Raises:
            StorageError: The disk is full, read-only or out of reach.
        """
        path = self.result_path(name)
        write_tensors(path, tensors, {**(metadata or {}), "run": self.fingerprint})
        return path

    def read_result(self, name: str) -> dict[str, Array]:
        """Read a result, every bit of it checked.

        Raises:
            NotFoundError: The run has no such result (those that it has are named).
            FormatError: The file is damaged.
        """
        path = self.result_path(name)
        if not path.exists():
            have = ", ".join(self.results()) or "none yet"
            raise NotFoundError(f"{self.path} has no result {name!r}.", hint=f"It has: {have}.")
        return read_tensors(path, own=True)

    def results(self) -> list[str]:
        """Names of the results, sorted."""
        found = [*self.path.glob("*.safetensors"), *self.path.glob("*/*.safetensors")]
        names = [path.relative_to(self.path).with_suffix("").as_posix() for path in found]
        return sorted(
            name for name in names if _RESULT_NAME.fullmatch(name) and not name.startswith(f"{PARTIALS}/")
        )

    def _shard(self, index: int) -> Path:
        return self.path / PARTIALS / f"shard-{index:04d}.safetensors"

    def _sidecar(self, index: int) -> Path:
        return self.path / PARTIALS / f"shard-{index:04d}.json"


def folder_name(*parts: str) -> str:
    """A name for a run's folder that any system takes."""
    joined = "-".join(parts)
    return "".join(c if c.isalnum() or c in "-." else "-" for c in joined).strip("-.")[:120]


@contextmanager
def _locked_and_clean(path: Path) -> Iterator[None]:
    with exclusive_lock(path):
        remove_leftovers(path)
        forget_progress(path)
        for folder in path.iterdir():
            if folder.is_dir():
                remove_leftovers(folder)
        try:
            yield
        finally:
            forget_progress(path)


def _as_json(value: object) -> Any:
    """The value as it will come back from run.json, so that equal settings compare equal."""
    return json.loads(json.dumps(value, sort_keys=True, default=str))


def _fingerprint(command: str, configuration: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    identity = {key: provenance.get(key) for key in _IDENTITY}
    return _digest([command, configuration, identity])


def _description(
    command: str, configuration: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    configuration, provenance = _as_json(configuration), _as_json(provenance)
    described = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "configuration": configuration,
        "provenance": provenance,
        "fingerprint": _fingerprint(command, configuration, provenance),
    }
    return {**described, _SEAL: _digest(described)}


def _sealed(found: Mapping[str, Any]) -> bool:
    """Whether all of it is as it was written; an older onesense wrote no seal, and nothing else beside."""
    described = {name: value for name, value in found.items() if name != _SEAL}
    if _SEAL not in found:
        return set(found) == _DESCRIPTION
    return bool(found[_SEAL] == _digest(described))


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _refuse_foreign(path: Path) -> None:
    """A folder with files of the user is not taken over; one that a killed run has just begun is."""
    with disk_errors(path, action="read"):
        if not path.exists():
            return
        names = {entry.name for entry in path.iterdir()}
    ours = {name for name in names if name.endswith(TEMPORARY_SUFFIX)} | {LOCK_NAME}
    if RUN_FILE not in names and names - ours:
        raise IncompatibleError(
            f"{path} holds files but no run: {', '.join(sorted(names - ours)[:3])}.",
            hint="Choose an empty or a new folder with --run-folder.",
        )


def _refuse_other(run: RunFolder, wanted: Mapping[str, Any]) -> None:
    differences = []
    if run.command != wanted["command"]:
        differences.append(f"command: {run.command} there, {wanted['command']} now")
    differences += _differences(run.configuration, wanted["configuration"])
    for key in _IDENTITY:
        differences += _differences(run.provenance.get(key), wanted["provenance"].get(key), key)
    if differences:
        listed = "\n".join(f"  {line}" for line in differences)
        raise IncompatibleError(
            f"{run.path} holds a run that was made otherwise:\n{listed}",
            hint="Choose another folder with --run-folder, or delete this one.",
        )


def _differences(there: Any, now: Any, key: str = "") -> list[str]:
    if isinstance(there, Mapping) and isinstance(now, Mapping):
        lines = []
        for name in sorted({*there, *now}):
            lines += _differences(there.get(name), now.get(name), f"{key}.{name}" if key else name)
        return lines
    if there == now:
        return []
    return [
        f"{key}: {json.dumps(there, ensure_ascii=False)} there, {json.dumps(now, ensure_ascii=False)} now"
    ]
