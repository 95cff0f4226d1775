"""Parts of ``benchmarks.fuzz``: what reads files of others, each with good files to begin with."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

Target = Callable[[bytes], None]

_PLACES = {
    "saelens": "dictionaries",
    "sparsify": "dictionaries",
    "dictionary_learning": "dictionaries",
    "gemma_scope": "dictionaries",
    "recipe": "dictionaries",
    "split_map": "dictionaries",
    "control_vector": "dictionaries",
    "answers": "texts",
    "corpus": "texts",
    "benchmark_files": "texts",
    "results": "texts",
    "run_folder": "runs",
    "catalogue": "runs",
}

NAMES = tuple(_PLACES)
"""Every target."""


def make_target(name: str, folder: Path) -> Target:
    """A target, its good files written to `folder`.

    Raises:
        NotFoundError: Its seeds are not on this machine.
    """
    module = import_module(f"benchmarks.fuzz_targets.{_PLACES[name]}")
    made: Target = getattr(module, name)(folder)
    return made
