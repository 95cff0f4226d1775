"""One trial: a command is struck, run again, and what it ends in is held against an undisturbed run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fault_trials.children import Child, Ended
from benchmarks.fault_trials.commands import Command, produced
from benchmarks.fault_trials.snapshot import (
    half_written,
    refused_by_its_reader,
    snapshot,
    temporaries,
)
from benchmarks.fault_trials.striking import Fault, Scene, Struck, Undisturbed

_TOLD = frozenset({2, 3, 4, 5, 6, 7, 9, 11})
_MOST_MENDS = 3
OUTCOMES = ("went on", "resumed", "missed")
"""What a command does that loses a node."""


@dataclass
class Verdict:
    """What a trial found.

    Attributes:
        command: The command.
        fault: The fault.
        what: What was done, in words.
        told: How often the user was told what is damaged and what to do.
        lost: Results that an undisturbed run has and this one has not.
        wrong: Results that differ from those of an undisturbed run and that nobody was told of.
        half_written: Files that were neither absent nor whole right after the fault.
        crashed: Tracebacks, hangs, and errors without words.
        left: Temporary files that nobody removed.
        outcome: Of a lost node: ``went on`` to the end without it, ``resumed`` when it was run again, or ``missed``,
            where the command ended before.
    """

    command: str
    fault: str
    what: str = ""
    told: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    half_written: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    outcome: str = ""

    @property
    def sound(self) -> bool:
        """Whether everything held."""
        return not (self.lost or self.wrong or self.half_written or self.crashed or self.left)


def strike_and_resume(
    scene: Scene, name: str, fault: Fault, restore: Callable[[str | None], None]
) -> Verdict:
    """Strike once, run the command again as a user would, and compare.

    Args:
        scene: The trial.
        name: Name of the fault.
        fault: The fault.
        restore: Puts a file that the command did not make (or, with None, all of them) back in place.
    """
    verdict = Verdict(scene.command.name, name)
    struck = fault(scene)
    verdict.what = struck.what
    _judge_the_struck(scene, struck, verdict)
    if struck.nodes_lost is not None:
        verdict.outcome = "missed" if struck.nodes_lost == 0 else "went on" if struck.went_on else "resumed"
    if not struck.went_on and _again(scene, struck, verdict, restore) is None:
        return verdict
    found = snapshot(scene.folder)
    expected = scene.usual.files
    tolerated = _not_taken(scene, struck, found)
    verdict.lost = sorted(set(expected) - set(found))
    verdict.wrong = sorted(
        path for path, digest in found.items() if digest != expected.get(path) and path not in tolerated
    )
    verdict.left += temporaries(scene.folder)
    return verdict


def _judge_the_struck(scene: Scene, struck: Struck, verdict: Verdict) -> None:
    verdict.crashed += [_last_line(one) for one in struck.ended if one.crashed]
    damaged = {} if struck.damaged is None else {struck.damaged}
    usual = {**scene.usual.before, **scene.usual.files}
    verdict.half_written = sorted(set(half_written(scene.folder, usual)) - set(damaged))
    if struck.clean:
        verdict.left += temporaries(scene.folder)


def _again(
    scene: Scene, struck: Struck, verdict: Verdict, restore: Callable[[str | None], None]
) -> Ended | None:
    """Run the command until it ends well, doing what it says; None where that leads nowhere."""
    command = scene.command
    for _ in range(_MOST_MENDS):
        if command.finished_folder and (scene.folder / command.finished_folder).exists():
            return _finished(scene, struck, verdict, restore)
        ended = scene.start().wait()
        if ended.crashed:
            verdict.crashed.append(_last_line(ended))
            return None
        if ended.code == 0:
            return ended
        if ended.code not in _TOLD or struck.damaged is None or not _mended(scene, ended, restore):
            verdict.lost.append(f"it does not go on ({ended.code}): {ended.error.strip()[:300]}")
            return None
        verdict.told += 1
    verdict.lost.append(f"what it says does not help: {ended.error.strip()[:300]}")
    return None


def _finished(
    scene: Scene, struck: Struck, verdict: Verdict, restore: Callable[[str | None], None]
) -> Ended | None:
    """The result of a command that refuses to write to the same place twice."""
    command = scene.command
    assert command.finished_folder is not None
    place = scene.folder / command.finished_folder
    if struck.damaged is None or not struck.damaged.startswith(f"{command.finished_folder}/"):
        if struck.damaged is not None:
            restore(struck.damaged)
        return Ended(0, "", 0.0)
    if command.verified:
        told = Child(("verify", command.finished_folder, "--hashes-only"), scene.folder, scene.log).wait()
        if told.crashed:
            verdict.crashed.append(_last_line(told))
        if told.code not in _TOLD:
            return Ended(0, "", 0.0)  # the comparison will say what nobody was told
    elif not _refused_dictionary(scene, place):
        return Ended(0, "", 0.0)
    verdict.told += 1
    shutil.rmtree(place)
    return _again(scene, struck, verdict, restore)


def _refused_dictionary(scene: Scene, place: Path) -> bool:
    told = Child(("sae", "check", "demo", "--sae-path", str(place)), scene.folder, scene.log).wait()
    return told.code in (4, 6) and not told.crashed


def _mended(scene: Scene, ended: Ended, restore: Callable[[str | None], None]) -> bool:
    """Do what the message says; whether it said anything that can be done."""
    words = ended.error
    if folder := re.search(r"Delete the folder (\S+) and run", words):
        shutil.rmtree(scene.folder / folder[1])
        restore(None)
        return True
    named = [
        path.relative_to(scene.folder).as_posix()
        for path in produced(scene.folder)
        if re.search(rf"(?<![\w./-]){re.escape(path.relative_to(scene.folder).as_posix())}(?![\w/-])", words)
    ]
    if "elete" not in words or not named:
        return False
    for name in named:
        (scene.folder / name).unlink()
        restore(name)
    return True


def _not_taken(scene: Scene, struck: Struck, found: dict[str, str]) -> set[str]:
    """A damaged file that the command had no need of, or whose reader will be told."""
    if struck.damaged is None or struck.damaged not in found:
        return set()
    not_its_own = scene.usual.before.get(struck.damaged) is not None
    refused = refused_by_its_reader(scene.folder / struck.damaged)
    return {struck.damaged} if not_its_own or refused else set()


def _last_line(ended: Ended) -> str:
    if ended.hung:
        return f"hung for {ended.seconds:.0f} s"
    lines = ended.error.strip().splitlines()
    return f"exit {ended.code}: {lines[-1][:300] if lines else 'no word'}"


__all__ = ["OUTCOMES", "Command", "Undisturbed", "Verdict", "strike_and_resume"]
