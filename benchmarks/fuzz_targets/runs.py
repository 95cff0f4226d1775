"""Readers of run folders: what is said of a run, its catalogue, its results, its units of resume."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.fuzz_targets.files import ChangedFolder, Target, contents
from onesense.errors import NotFoundError, OnesenseError
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.explanations import (
    ExplanationRow,
    ScoreRow,
    read_explanations,
    read_scores,
    write_explanations,
    write_scores,
)
from onesense.store.progress import read_progress
from onesense.store.run_folder import RunFolder
from onesense.store.senses import SenseRow, read_senses, replace_senses, sense_numbers
from onesense.store.tensor_file import read_metadata, read_shapes


def run_folder(folder: Path) -> Target:
    """A run with results, a shard, a catalogue and a word of how far it is."""
    made = folder / "made"
    run = RunFolder.create_or_resume(
        made, command="extract", configuration={"k": 3}, provenance={"inputs": {"model": "m"}, "seeds": 1}
    )
    run.write_shard(0, {"sum": np.arange(5.0)})
    run.write_result("lens", {"mean": np.arange(4, dtype=np.float32)})
    run.write_result("contexts/block-0000", {"token": np.arange(4, dtype=np.uint16)})
    whole = {name: data for name, data in contents(made).items() if name != ".lock"}
    whole[".lock"] = b"1"
    whole[".progress"] = b'{"title": "Find", "unit": "tokens", "done": 3, "total": 9}'
    return ChangedFolder(folder / "run", whole, _read_run)


def catalogue(folder: Path) -> Target:
    """The database of a run, opened to look on and to write."""
    path = folder / "made.sqlite"
    with Catalog(path) as made:
        made.replace_features([FeatureRow(n, mean=n / 3, top_tokens=[f"w{n}", "sea"]) for n in range(3)])
        write_explanations(made, [ExplanationRow(1, text="the sea")])
        write_scores(made, [ScoreRow(1, value=0.5, items=4)])
        replace_senses(made, [SenseRow("features", 1, number=2, tokens=(("a",), ("b",)))])
    return ChangedFolder(folder / "catalogue", {"catalog.sqlite": path.read_bytes()}, _read_catalogue)


def _read_run(place: Path) -> None:
    read_progress(place)
    run = RunFolder.open(place)
    run.shard_done(0)
    run.read_shard(0)
    failed: OnesenseError | None = None
    for name in run.results():
        for reader in (run.read_result, lambda one: read_shapes(run.result_path(one)),
                       lambda one: read_metadata(run.result_path(one))):  # fmt: skip
            try:
                reader(name)
            except OnesenseError as error:
                failed = error
    if failed is not None:
        raise failed


def _read_catalogue(place: Path) -> None:
    path = place / "catalog.sqlite"
    failed: OnesenseError | None = None
    for read_only in (True, False):
        try:
            with Catalog(path, read_only=read_only) as opened:
                _look(opened)
                if not read_only:
                    opened.replace_features([FeatureRow(n, top_tokens=["new"]) for n in range(2)])
        except OnesenseError as error:
            failed = error
    if failed is not None:
        raise failed


def _look(opened: Catalog) -> None:
    opened.count()
    opened.page(limit=10)
    with suppress(NotFoundError):
        opened.feature(1)
    opened.search("sea")
    opened.candidates()
    read_explanations(opened)
    read_scores(opened)
    read_senses(opened, tokens="a")
    sense_numbers(opened)
