"""Read files that a fuzzer made, guided by the lines of onesense that they reach.

What reads may only return, or raise an OnesenseError. Anything else, or more than ten seconds, is a crash: each is
told once, with the line of onesense where it began and the bytes that repeat it.

``python -m benchmarks.fuzz answers --seconds 600``; ``all`` runs every target in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz_targets import NAMES, Target, make_target

SLOW_S = 10.0
_QUICK_SECONDS = 5.0
_MOST_BYTES = 512
_MISSING = (
    "Fuzzing needs atheris, which has wheels for Linux: pip install atheris==3.0.0. "
    "Without it, --plain tries bytes that nothing guides."
)
_OURS = os.sep + os.path.join("src", "onesense") + os.sep


@dataclass
class Fuzzed:
    """What a target did.

    Attributes:
        target: Its name.
        seconds: How long it ran.
        executions: Inputs that were read.
        refused: Of these, those that an OnesenseError answered.
        crashes: The first input of each crash, in hexadecimal, by what it is.
    """

    target: str
    seconds: float = 0.0
    executions: int = 0
    refused: int = 0
    crashes: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """As JSON."""
        return json.dumps(vars(self))


class Counter:
    """Runs one input, and notes what comes of it.

    Args:
        name: Name of the target.
        target: The target.
    """

    def __init__(self, name: str, target: Target) -> None:
        self.found = Fuzzed(name)
        self._target, self._began = target, time.monotonic()

    def __call__(self, data: bytes) -> None:
        """Read, and never raise."""
        from onesense.errors import OnesenseError

        began = time.monotonic()
        self.found.executions += 1
        try:
            self._target(data)
        except OnesenseError:
            self.found.refused += 1
        except Exception as error:
            self._note(_where(error), data)
        took = time.monotonic() - began
        if took > SLOW_S:
            self._note(f"slow: {took:.0f} s", data)
        self.found.seconds = round(time.monotonic() - self._began, 1)

    def _note(self, what: str, data: bytes) -> None:
        if what not in self.found.crashes:
            self.found.crashes[what] = data.hex()
            print(f"{self.found.target}: {what}: {data.hex()[:200]}", file=sys.stderr, flush=True)


def fuzz(name: str, seconds: float, *, seed: int = 0, plain: bool = False) -> Fuzzed:
    """Run one target in this process; where atheris guides, the process ends with it.

    Args:
        name: The target.
        seconds: How long.
        seed: Of what is tried first.
        plain: Without atheris.
    """
    with tempfile.TemporaryDirectory(prefix="onesense-fuzz-") as made:
        counter = Counter(name, _made(name, Path(made), plain=plain))
        if plain:
            dice = random.Random(seed)
            while time.monotonic() - counter._began < seconds:
                counter(dice.randbytes(dice.randint(0, _MOST_BYTES)))
            return counter.found
        _guided(counter, seconds, seed, Path(made))
    return counter.found


def _made(name: str, folder: Path, *, plain: bool) -> Target:
    warnings.simplefilter("ignore")
    if plain:
        return make_target(name, folder)
    atheris = _atheris()
    with atheris.instrument_imports(include=["onesense"], enable_loader_override=False):
        return make_target(name, folder)


def _guided(counter: Counter, seconds: float, seed: int, folder: Path) -> None:
    atheris = _atheris()
    began = time.monotonic()

    def one(data: bytes) -> None:
        counter(data)
        if time.monotonic() - began > seconds:
            counter.found.seconds = round(time.monotonic() - began, 1)
            print(counter.found.line(), flush=True)
            _remove(folder)
            os._exit(1 if counter.found.crashes else 0)  # libFuzzer has no other way to stop it from inside

    words = [sys.argv[0], f"-max_len={_MOST_BYTES}", f"-seed={seed + 1}", "-verbosity=0", "-rss_limit_mb=4096",
             f"-timeout={int(3 * SLOW_S)}", f"-artifact_prefix={tempfile.gettempdir()}/"]  # fmt: skip
    atheris.Setup(words, one)
    atheris.Fuzz()


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _atheris() -> Any:
    try:
        import atheris
    except ImportError:
        sys.exit(_MISSING)
    return atheris


def _where(error: BaseException) -> str:
    """Kind of an error, and the innermost line of onesense in its traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _OURS in frame.filename]
    if not frames:
        return type(error).__name__
    last = frames[-1]
    return f"{type(error).__name__} at {last.filename.split(_OURS)[-1]}:{last.lineno}"


def _all(seconds: float, extra: list[str], output: Path | None) -> int:
    """Every target, one after the other."""
    rows, code = [], 0
    for name in NAMES:
        words = [sys.executable, "-m", "benchmarks.fuzz", name, "--seconds", str(seconds), *extra]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        lines = [line for line in ended.stdout.splitlines() if line.startswith('{"target"')]
        if ended.returncode != 0:
            code = 1
            print(ended.stderr[-3000:], file=sys.stderr)
        row = json.loads(lines[-1]) if lines else {"target": name, "died": ended.returncode}
        rows.append(row)
        print(json.dumps({**row, "crashes": sorted(row.get("crashes", {}))}), flush=True)
        if output is not None:
            output.write_text(json.dumps(rows, indent=1) + "\n")
    return code


def main(run: Callable[..., Fuzzed] = fuzz) -> int:
    """Fuzz one target or all of them; exit with 1 where something crashed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", default="all", choices=["all", *NAMES])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="without atheris: nothing guides what is tried")
    parser.add_argument("--output", type=Path, help="JSON of what `all` found")
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_SECONDS:g} seconds each, without atheris"
    )
    options = parser.parse_args()
    seconds = _QUICK_SECONDS if options.quick else options.seconds
    plain = options.plain or options.quick
    if options.target == "all":
        extra = ["--seed", str(options.seed), *(["--plain"] if plain else [])]
        return _all(seconds, extra, options.output)
    found = run(options.target, seconds, seed=options.seed, plain=plain)
    print(found.line())
    return 1 if found.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
