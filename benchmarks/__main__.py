"""Run every benchmark in this folder: ``python -m benchmarks [--quick]``."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

PARTS = {"__init__", "__main__", "memory", "timing"}
NEEDS = {"llama_cpp": "llama_cpp"}
"""Benchmarks that need a package which onesense does not; they are left out where it is missing."""


def main() -> int:
    """Run each benchmark in a process of its own, so that none inherits the threads or caches of another."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    options = parser.parse_args()
    folder = Path(__file__).parent
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in PARTS)
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            print(f"Left out: the package {NEEDS[name]} is not installed.\n", flush=True)
            continue
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if options.quick else [])]
        if subprocess.run(command, cwd=folder.parent, check=False).returncode != 0:
            failed.append(name)
        print(flush=True)
    if failed:
        print(f"Did not finish: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
