"""The memory that a command takes at its highest point."""

import subprocess
import sys

# The process itself looks: what the operating system says of a child counts what its parent held when it forked.
_TOLD = """
import atexit, sys
def tell():
    with open("/proc/self/status") as lines:
        print(next(line for line in lines if line.startswith("VmHWM")), file=sys.stderr)
atexit.register(tell)
from onesense.cli.main import main
main()
"""


def run_measured(arguments: list[str]) -> tuple[str, float]:
    """Run a command of onesense in a process of its own: what it said on the side, and 10^9 bytes. Linux only."""
    done = subprocess.run(
        [sys.executable, "-c", _TOLD, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak = next(line for line in reversed(done.stderr.splitlines()) if line.startswith("VmHWM"))
    return done.stderr, int(peak.split()[1]) * 1024 / 1e9
