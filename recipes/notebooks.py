"""Run the notebooks: with full sizes to keep their outputs, or with small ones to see that they work."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
_SMALL = "ONESENSE_SMALL_NOTEBOOKS"
_SECONDS_FOR_A_CELL = 1_800


def execute(path: Path, folder: Path, *, small: bool) -> NotebookNode:
    """Run every cell; what one raises is raised.

    Args:
        path: The notebook.
        folder: Where it runs and writes.
        small: Whether with the sizes of a test.
    """
    notebook = nbformat.read(path, as_version=4)
    # A socket in a folder of its own, instead of ports that everybody on the machine may read. Its path must be short.
    sockets = Path(tempfile.mkdtemp(prefix="kernel-"))
    manager = AsyncKernelManager(transport="ipc", ip=str(sockets / "kernel"), kernel_name="python3")
    manager.cache_ports = False
    environment = {name: value for name, value in os.environ.items() if name != _SMALL}
    try:
        NotebookClient(
            notebook,
            km=manager,
            timeout=_SECONDS_FOR_A_CELL,
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
        ).execute(env=environment | ({_SMALL: "1"} if small else {}))
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    return notebook


def without_asides(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what libraries say on stderr, which names folders of the machine."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main() -> None:
    """Run the notebooks with full sizes and keep their outputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="Without .ipynb; all by default.")
    names = parser.parse_args().names or [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    for name in names:
        path = NOTEBOOKS / f"{name}.ipynb"
        with tempfile.TemporaryDirectory() as folder:
            ran = execute(path, Path(folder), small=False)
        nbformat.write(without_asides(ran), path)


if __name__ == "__main__":
    main()
