"""The memory that a piece of work takes at its highest point."""

import subprocess
import sys
from collections.abc import Sequence

# The process itself looks: what the operating system says of a child counts what its parent held when it forked.
_TOLD = """
import atexit, sys
def tell():
    with open("/proc/self/status") as lines:
        print(next(line for line in lines if line.startswith("VmHWM")), file=sys.stderr)
atexit.register(tell)
"""
_COMMAND = """
from onesense.cli.main import main
main()
"""


def run_measured(arguments: Sequence[str], code: str = _COMMAND) -> tuple[str, float]:
    """Run a command of onesense, or other code, in a process of its own: what it said on the side, and 10^9 bytes.

    Linux only.
    """
    done = subprocess.run(
        [sys.executable, "-c", _TOLD + code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak = next(line for line in reversed(done.stderr.splitlines()) if line.startswith("VmHWM"))
    return done.stderr, int(peak.split()[1]) * 1024 / 1e9
