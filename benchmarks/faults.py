"""Kill, fill, damage and crowd the commands, run them again, and count what is not as it should be.

Each trial takes one command on a tiny model and one fault, by the dice of its seed. Afterwards the same command
must end in the bytes of a run that nothing disturbed, or say what is damaged and how to mend it.

``python -m benchmarks.faults --trials 200 --seed 0 --output faults.json``
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.fault_trials.calls import tell_count
from benchmarks.fault_trials.children import Child, Ended, Prepare, call_in_child
from benchmarks.fault_trials.commands import Command, commands, produced
from benchmarks.fault_trials.materials import make_materials, materials_in, with_tests_modules
from benchmarks.fault_trials.nodes import Nodes, OnRay, cut_small, may_use_ray, tell_answers
from benchmarks.fault_trials.snapshot import Snapshot, snapshot
from benchmarks.fault_trials.striking import FAULTS, NEED_A_MOUNT, NODE_LOST, Scene, Undisturbed, may_mount
from benchmarks.fault_trials.trial import OUTCOMES, Verdict, strike_and_resume

_COUNTED = ("lost", "wrong", "half_written", "crashed", "left")
_QUICK_TRIALS = 10


class Trials:
    """Commands that have been run once undisturbed, and a place to strike them.

    Args:
        folder: Where everything goes.
        names: Commands; those that they go on from are run too.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        (folder / "materials").mkdir()
        warm(folder / "materials")
        self.commands = commands(materials_in(folder / "materials"))
        self._usual: dict[str, Undisturbed] = {}
        self._on_ray: dict[str, OnRay] = {}
        for name in names:
            self._run_undisturbed(self.commands[name])

    def usual(self, name: str) -> Undisturbed:
        """What a command does undisturbed."""
        return self._usual[name]

    def trial(self, name: str, fault: str, seed: int | str) -> Verdict:
        """Strike a command once."""
        command = self.commands[name]
        folder = self._folder / "work"
        on_ray = self._run_on_ray(command) if fault == NODE_LOST else None
        self._prepare(command, folder)
        dice = random.Random(seed)
        scene = Scene(command, folder, self._folder / "error.log", dice, self._usual[name], on_ray)
        try:
            with scene.stays:
                return strike_and_resume(scene, fault, FAULTS[fault], partial(self._restore, command, folder))
        finally:
            shutil.rmtree(folder)

    def _run_undisturbed(self, command: Command) -> None:
        if command.name in self._usual:
            return
        if command.goes_on_from is not None:
            self._run_undisturbed(self.commands[command.goes_on_from])
        counter = self._folder / "calls"
        # Twice: the first run fills what is kept from one to the next, and its calls are counted.
        for prepare in (partial(tell_count, str(counter)), None):
            folder = self._whole(command)
            shutil.rmtree(folder, ignore_errors=True)
            self._prepare(command, folder)
            before = snapshot(folder)
            ended = Child(command.arguments, folder, self._folder / "error.log", prepare).wait()
            if ended.code != 0:
                raise RuntimeError(f"{command.name} fails undisturbed ({ended.code}): {ended.error[-2000:]}")
        size = sum(path.stat().st_size for path in produced(folder))
        self._usual[command.name] = Undisturbed(
            ended.seconds, int(counter.read_bytes()), size, snapshot(folder), before
        )

    def _run_on_ray(self, command: Command) -> OnRay:
        """Once in one process and once on a cluster that loses nothing: the same files."""
        if command.name not in self._on_ray:
            calls, answers = self._folder / "calls", self._folder / "answers"

            def count() -> None:
                cut_small()
                tell_answers(str(answers))
                tell_count(str(calls))

            _, files = self._once(command, cut_small)
            with closing(Nodes(self._folder / "error.nodes")) as nodes:
                ended, there = self._once(command.on_ray(nodes.address), count)
            if there != files:
                raise RuntimeError(
                    f"{command.name} makes other files on Ray: {set(there.items()) ^ set(files.items())}"
                )
            seen = OnRay(files, ended.seconds, int(calls.read_bytes()), int(answers.read_bytes()))
            self._on_ray[command.name] = seen
            print(f"{command.name}, on Ray: {seen.seconds:.1f} s, {seen.answers} answers", flush=True)
        return self._on_ray[command.name]

    def _once(self, command: Command, prepare: Prepare) -> tuple[Ended, Snapshot]:
        folder = self._folder / "once"
        self._prepare(command, folder)
        ended = Child(command.arguments, folder, self._folder / "error.log", prepare).wait()
        if ended.code != 0:
            raise RuntimeError(f"{command.name} fails undisturbed ({ended.code}): {ended.error[-2000:]}")
        files = snapshot(folder)
        shutil.rmtree(folder)
        return ended, files

    def _whole(self, command: Command) -> Path:
        return self._folder / f"whole-{command.name.replace(' ', '-')}"

    def _prepare(self, command: Command, folder: Path) -> None:
        folder.mkdir()
        if command.goes_on_from is not None:
            shutil.copytree(self._whole(self.commands[command.goes_on_from]), folder, dirs_exist_ok=True)

    def _restore(self, command: Command, folder: Path, name: str | None) -> None:
        if command.goes_on_from is None:
            return
        whole = self._whole(self.commands[command.goes_on_from])
        if name is None:
            shutil.copytree(whole, folder, dirs_exist_ok=True)
        elif (whole / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(whole / name, folder / name)


def warm(materials: Path) -> None:
    """Import everything once, so that children begin at once, and let them see what debias needs."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    call_in_child(partial(make_materials, materials))
    with_tests_modules()
    import peft  # noqa: F401
    import transformers.models.gpt2.modeling_gpt2  # noqa: F401

    from onesense.cli import main  # noqa: F401
    from onesense.debias import debias
    from onesense.debias.debias_run import DebiasRun
    from onesense.debias.export import export  # noqa: F401
    from onesense.explain import lexical  # noqa: F401
    from onesense.features import extract  # noqa: F401
    from onesense.model import load  # noqa: F401
    from onesense.sae import train  # noqa: F401
    from onesense.senses import measure, ruler
    from onesense.senses.judge import fit_judge
    from onesense.senses.split import split  # noqa: F401

    del debias, measure
    # A random model has no bias to remove, and its senses need no judge that learned for minutes.
    DebiasRun.refuse_without_bias = lambda _self, _found: None  # type: ignore[method-assign, assignment]
    ruler.fit_judge = partial(fit_judge, unions=120)  # type: ignore[assignment]


def draw(
    number: int, seed: int, names: Sequence[str], faults: Sequence[str], on_ray: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Commands and faults of so many trials: every pair as often as any other, up to one, in random order.

    Args:
        number: Of trials.
        seed: Of the dice.
        names: Commands.
        faults: Faults that strike each of them.
        on_ray: Commands that also lose a node. These trials take the place of the last ones, so that those before
            are the same with and without them.
    """
    pairs = [(name, fault) for name in names for fault in faults]
    losses = [(name, NODE_LOST) for name in on_ray]
    last = round(number * len(losses) / (len(pairs) + len(losses)))
    dice = random.Random(seed)
    return _deal(pairs, number - last, dice) + _deal(losses, last, dice)


def _deal(pairs: list[tuple[str, str]], number: int, dice: random.Random) -> list[tuple[str, str]]:
    drawn: list[tuple[str, str]] = []
    while len(drawn) < number:
        dice.shuffle(pairs)
        drawn += pairs
    return drawn[:number]


def _can_be_made(faults: Sequence[str], folder: Path) -> list[str]:
    """The faults that this process can make; says which it cannot."""
    left_out = set()
    if not may_mount(folder):
        print(f"Left out, as this process may not mount a disk: {', '.join(NEED_A_MOUNT)}.")
        left_out |= set(NEED_A_MOUNT)
    if NODE_LOST in faults and not may_use_ray():
        print(f"Left out, as Ray is not installed: {NODE_LOST}.")
        left_out.add(NODE_LOST)
    return [fault for fault in faults if fault not in left_out]


def main() -> int:
    """Run the trials, print a table, and exit with 1 where anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", action="append", help="only this command; may be repeated")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="only this; may be repeated")
    parser.add_argument("--output", type=Path, help="JSON with every trial")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_TRIALS} trials of three commands")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="onesense-faults-") as made:
        folder = Path(made)
        known = list(commands(materials_in(folder)))
        names = options.command or (["extract", "audit", "steer"] if options.quick else known)
        if unknown := set(names) - set(known):
            parser.error(f"no command {sorted(unknown)}; there are: {', '.join(known)}")
        faults = _can_be_made(options.fault or list(FAULTS), folder)
        trials = Trials(folder, names)
        on_ray = [name for name in names if NODE_LOST in faults and trials.commands[name].takes_ray]
        faults = [fault for fault in faults if fault != NODE_LOST]
        if not faults and not on_ray:
            parser.error("none of these faults strikes any of these commands")
        print("  ".join(f"{name}: {trials.usual(name).seconds:.1f} s" for name in names), flush=True)
        count = _QUICK_TRIALS if options.quick else options.trials
        verdicts = []
        for number, (name, fault) in enumerate(draw(count, options.seed, names, faults, on_ray)):
            verdicts.append(trials.trial(name, fault, f"{options.seed}-{number}"))
            _tell(number, verdicts[-1])
    seconds = time.monotonic() - began
    _print_table(verdicts, seconds)
    _print_losses(verdicts, [name for name in names if not trials.commands[name].takes_ray])
    if options.output is not None:
        found = {"seed": options.seed, "seconds": round(seconds), "trials": [asdict(one) for one in verdicts]}
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(one.sound for one in verdicts) else 1


def _tell(number: int, verdict: Verdict) -> None:
    if not verdict.sound:
        faults = {key: getattr(verdict, key) for key in _COUNTED if getattr(verdict, key)}
        print(f"trial {number}: {verdict.command}, {verdict.fault} ({verdict.what}): {faults}", flush=True)


def _print_table(verdicts: Sequence[Verdict], seconds: float) -> None:
    print(f"\n{len(verdicts)} trials in {seconds:.0f} s")
    for title, key in (("fault", "fault"), ("command", "command")):
        print(
            f"\n{title:24}{'trials':>8}{'told':>8}"
            + "".join(f"{one.replace('_', ' '):>14}" for one in _COUNTED)
        )
        groups = Counter(getattr(one, key) for one in verdicts)
        for name, count in groups.items():
            _print_row(name, count, [one for one in verdicts if getattr(one, key) == name])
    _print_row("all", len(verdicts), verdicts)
    print(json.dumps({"trials": len(verdicts), **_counts(verdicts)}))


def _print_losses(verdicts: Sequence[Verdict], without_ray: Sequence[str]) -> None:
    """What became of the commands that lost a node."""
    outcomes = Counter((one.command, one.outcome) for one in verdicts if one.fault == NODE_LOST)
    if not outcomes:
        return
    print(f"\n{NODE_LOST:24}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES))
    for name in sorted({command for command, _ in outcomes}):
        print(f"{name:24}" + "".join(f"{outcomes[name, outcome]:>10}" for outcome in OUTCOMES))
    if without_ray:
        print(f"Not struck by it, as they take no --ray: {', '.join(without_ray)}.")


def _print_row(name: str, count: int, verdicts: Sequence[Verdict]) -> None:
    told = sum(bool(one.told) for one in verdicts)
    print(f"{name:24}{count:>8}{told:>8}" + "".join(f"{value:>14}" for value in _counts(verdicts).values()))


def _counts(verdicts: Sequence[Verdict]) -> Mapping[str, int]:
    return {key: sum(bool(getattr(one, key)) for one in verdicts) for key in _COUNTED}


if __name__ == "__main__":
    sys.exit(main())
