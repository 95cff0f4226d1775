"""The faults: each strikes a command once, in a working folder, by the dice of its trial.

A new fault is one more entry of ``FAULTS``.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.fault_trials.calls import act_at, fail_from
from benchmarks.fault_trials.children import Child, Ended, Prepare
from benchmarks.fault_trials.commands import Command, produced
from benchmarks.fault_trials.nodes import NODES, Nodes, OnRay, at_answer, cut_small

NODE_LOST = "a node is lost"
"""Strikes only commands that take ``--ray``."""

_LOCK = ".lock"


@dataclass(frozen=True)
class Undisturbed:
    """What a command does when nothing disturbs it.

    Attributes:
        seconds: How long it takes.
        calls: How many calls of it change files.
        size: Bytes that it leaves.
        files: SHA-256 by relative path; see ``snapshot``.
        before: The same of the folder that it began with.
    """

    seconds: float
    calls: int
    size: int
    files: Mapping[str, str]
    before: Mapping[str, str]


@dataclass
class Scene:
    """One trial.

    Attributes:
        command: What is run.
        folder: Working folder, with what the command needs in place.
        log: Where standard error goes.
        dice: Decides when and where.
        usual: What the command does undisturbed.
        on_ray: The same on a cluster, where it is lost nodes that strike.
        stays: What lasts as long as the trial.
        always: Called in every child before the command.
    """

    command: Command
    folder: Path
    log: Path
    dice: random.Random
    usual: Undisturbed
    on_ray: OnRay | None = None
    stays: ExitStack = field(default_factory=ExitStack)
    always: Prepare | None = None

    def start(self, prepare: Callable[[], None] | None = None, *, log: str = "") -> Child:
        """Start the command in a child."""

        def begin() -> None:
            for one in (self.always, prepare):
                if one is not None:
                    one()

        return Child(self.command.arguments, self.folder, self.log.with_suffix(f".log{log}"), begin)

    def a_call(self) -> int:
        """The number of one of its calls."""
        return self.dice.randint(1, max(1, self.usual.calls))

    def a_moment(self) -> float:
        """Seconds from the start."""
        return self.dice.uniform(0.0, self.usual.seconds)


@dataclass(frozen=True)
class Struck:
    """What a fault did.

    Attributes:
        what: In words.
        ended: How the command took it; one for each process.
        damaged: The file that was damaged afterwards, relative.
        clean: Whether a process that was struck could still tidy up.
        nodes_lost: Of a cluster that the command worked on; None where it worked in one process.
    """

    what: str
    ended: tuple[Ended, ...]
    damaged: str | None = None
    clean: bool = True
    nodes_lost: int | None = None

    @property
    def went_on(self) -> bool:
        """Whether the command ended well on what was left of its cluster."""
        return self.nodes_lost is not None and self.ended[0].code == 0


Fault = Callable[[Scene], Struck]


def _killed_at_a_call(scene: Scene) -> Struck:
    at = scene.a_call()
    ended = scene.start(lambda: act_at(at, lambda: os.kill(os.getpid(), signal.SIGKILL))).wait()
    return Struck(f"SIGKILL before call {at} of {scene.usual.calls}", (ended,), clean=False)


def _killed_at_a_moment(scene: Scene) -> Struck:
    after = scene.a_moment()
    child = scene.start()
    child.signal_after(after, signal.SIGKILL)
    return Struck(f"SIGKILL after {after:.2f} of {scene.usual.seconds:.2f} s", (child.wait(),), clean=False)


def _stopped(number: signal.Signals) -> Fault:
    def strike(scene: Scene) -> Struck:
        if scene.dice.random() < 0.5:
            after = scene.a_moment()
            child = scene.start()
            child.signal_after(after, number)
            return Struck(f"{number.name} after {after:.2f} s", (child.wait(),))
        at = scene.a_call()
        ended = scene.start(lambda: act_at(at, lambda: os.kill(os.getpid(), number))).wait()
        return Struck(f"{number.name} before call {at} of {scene.usual.calls}", (ended,))

    return strike


def _failing_disk(code: int) -> Fault:
    def strike(scene: Scene) -> Struck:
        at = scene.a_call()
        ended = scene.start(lambda: fail_from(at, code)).wait()
        return Struck(f"{errno.errorcode[code]} from call {at} of {scene.usual.calls} on", (ended,))

    return strike


def _full_disk(scene: Scene) -> Struck:
    share = scene.dice.uniform(0.02, 1.1)
    already = sum(path.stat().st_size for path in produced(scene.folder))
    size = already + int(share * scene.usual.size) + 16_384
    with Mounted(scene.folder, f"size={size}") as disk:
        ended = scene.start().wait()
        disk.remount("size=1g")
    return Struck(f"a disk of {size:,} bytes", (ended,))


def _read_only(scene: Scene) -> Struck:
    with Mounted(scene.folder, "size=1g") as disk:
        disk.remount("ro")
        ended = scene.start().wait()
        disk.remount("rw")
    return Struck("a read-only disk", (ended,))


def _damaged(scene: Scene) -> Struck:
    """A file of a run that was killed, or of one that was finished, is no longer what it was."""
    if scene.dice.random() < 0.5:
        struck = _killed_at_a_call(scene)
    else:
        struck = Struck("finished", (scene.start().wait(),), clean=False)
    files = [path for path in produced(scene.folder) if path.name != _LOCK and path.stat().st_size]
    if not files:
        return struck
    path = scene.dice.choice(files)
    how = damage(path, scene.dice)
    name = path.relative_to(scene.folder).as_posix()
    return Struck(f"{struck.what}; {name}: {how}", struck.ended, damaged=name, clean=False)


def _two_writers(scene: Scene) -> Struck:
    after = scene.a_moment()
    first = scene.start()
    with suppress(ProcessLookupError):
        first.signal_after(after, 0)
    second = scene.start(log="2")
    return Struck(f"a second writer after {after:.2f} s", (first.wait(), second.wait()))


def _node_lost(scene: Scene) -> Struck:
    """One of two nodes is killed while the command works there, or its workers begin, or neither."""
    usual = scene.on_ray
    assert usual is not None
    nodes = scene.stays.enter_context(closing(Nodes(scene.log.with_suffix(".nodes"))))
    scene.command, scene.always = scene.command.on_ray(nodes.address), cut_small
    scene.usual = replace(scene.usual, files=usual.files)
    number = scene.dice.randrange(NODES)
    how = scene.dice.choice(("call", "answer", "moment"))
    if how == "moment":
        after = scene.dice.uniform(0.0, usual.seconds)
        child = scene.start()
        child.sleep_until(after)
        nodes.lose(number)
        what = f"after {after:.1f} of {usual.seconds:.1f} s"
    else:
        most, watch = (usual.calls, act_at) if how == "call" else (usual.answers, at_answer)
        at = scene.dice.randint(1, max(1, most))
        child = scene.start(lambda: watch(at, lambda: nodes.lose(number)))
        what = f"before {how} {at} of {most}"
    ended = child.wait()
    return Struck(f"node {number} {what}", (ended,), nodes_lost=nodes.lost())


def damage(path: Path, dice: random.Random) -> str:
    """Change the bytes of a file; returns how."""
    whole = bytearray(path.read_bytes())
    how = dice.choice(("cut short", "a bit flipped", "zeros", "emptied", "bytes added"))
    at = dice.randrange(len(whole))
    if how == "cut short":
        del whole[at:]
    elif how == "a bit flipped":
        whole[at] ^= 1 << dice.randrange(8)
    elif how == "zeros":
        stop = min(len(whole), at + dice.randint(1, 4096))
        whole[at:stop] = bytes(stop - at)
    elif how == "emptied":
        whole.clear()
    else:
        whole += dice.randbytes(dice.randint(1, 64))
    path.write_bytes(whole)
    return f"{how} at byte {at}"


class Mounted:
    """A small disk in memory in the place of a folder; what was there is on it, and what it holds comes back.

    Args:
        folder: The folder.
        options: Of ``mount``.
    """

    def __init__(self, folder: Path, options: str) -> None:
        self._folder, self._options = folder, options
        self._aside = folder.with_name(f"{folder.name}-aside")

    def __enter__(self) -> Mounted:
        self._folder.rename(self._aside)
        self._folder.mkdir()
        _run("mount", "-t", "tmpfs", "-o", self._options, "tmpfs", str(self._folder))
        _run("cp", "-a", f"{self._aside}/.", str(self._folder))
        return self

    def remount(self, options: str) -> None:
        """Change its options."""
        _run("mount", "-o", f"remount,{options}", str(self._folder))

    def __exit__(self, *_: object) -> None:
        _run("rm", "-rf", str(self._aside))
        _run("cp", "-a", str(self._folder), str(self._aside))
        _run("umount", str(self._folder))
        self._folder.rmdir()
        self._aside.rename(self._folder)


def may_mount(folder: Path) -> bool:
    """Whether this process may mount a disk (root, or a user namespace)."""
    probe = folder / "probe"
    probe.mkdir(exist_ok=True)
    try:
        _run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(probe))
        _run("umount", str(probe))
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


FAULTS: dict[str, Fault] = {
    "kill -9 at a call": _killed_at_a_call,
    "kill -9 at a moment": _killed_at_a_moment,
    "SIGTERM": _stopped(signal.SIGTERM),
    "SIGINT": _stopped(signal.SIGINT),
    "disk full (calls fail)": _failing_disk(errno.ENOSPC),
    "disk fault (EIO)": _failing_disk(errno.EIO),
    "disk full (small disk)": _full_disk,
    "read-only disk": _read_only,
    "damaged file": _damaged,
    "two writers": _two_writers,
    NODE_LOST: _node_lost,
}
"""Every fault by name."""

NEED_A_MOUNT = ("disk full (small disk)", "read-only disk")
"""Faults that need a disk of their own."""
