"""Pages of the documentation site that are made while it is built: the notebooks as they were run."""

from __future__ import annotations

from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

_NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page, and its pictures, for each notebook.

    Args:
        files: What the site is made from.
        config: Of the site.
    """
    for path in sorted(_NOTEBOOKS.glob("*.ipynb")):
        pictures = f"images/{path.stem}"
        notebook = nbformat.read(path, as_version=4)
        text, resources = MarkdownExporter().from_notebook_node(
            notebook, {"output_files_dir": pictures, "unique_key": "output"}
        )
        files.append(File.generated(config, f"{path.stem}.md", content=text))
        for name, data in resources["outputs"].items():
            files.append(File.generated(config, name, content=data))
    return files
