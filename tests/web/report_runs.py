"""Finished runs whose reports and senses the pages show, made from nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from onesense.bias.benchmark import Item
from onesense.bias.results import AuditResult
from onesense.bias.scoring.requests import Request
from onesense.debias.results import DebiasResult
from onesense.report.audit_json import write_audit
from onesense.report.debias_json import write_result
from onesense.report.items_csv import write_items
from onesense.report.study_json import write_study
from onesense.steer.recipe import ModelReference, Recipe, write_recipe
from onesense.store.catalog import Catalog
from onesense.store.run_folder import RunFolder
from onesense.store.senses import SenseRow, replace_senses
from onesense.study.study import StudyResult
from report.audits import HOSTILE, audit, hostile_audit
from report.debias_results import FRONT, hostile_result
from report.debias_results import result as debias_result
from report.study_results import result as study_result

KEY = "stereoset-test-gender"
"""A benchmark whose items are there."""

DICTIONARY = "d" * 64
HOSTILE_NAME = "<img src=x onerror=alert(2)>"
NOTE = "<script>alert(3)</script>"


def make_runs(folder: Path, *, hostile: bool = False) -> Path:
    """A folder with a run of each kind: audit, debias, extract, senses, study."""
    name = HOSTILE_NAME if hostile else "gentle"
    recipe = Recipe(model=ModelReference(name="demo", fingerprint="f" * 64), note=NOTE if hostile else "")
    make_debias(folder / "debias", hostile_result() if hostile else debias_result(), recipe)
    make_audit(folder / "audit", _audit(hostile=hostile), recipe, HOSTILE if hostile else "The nurse said")
    study = study_result(name=HOSTILE) if hostile else study_result()
    make_study(folder / f"study {name}", study)
    make_run(folder / "extract", "extract", {"model": "demo"}, dictionary={"fingerprint": DICTIONARY})
    make_senses(folder / f"senses {name}", [" she", HOSTILE] if hostile else [" she", " her"])
    return folder


def make_run(path: Path, command: str, configuration: dict[str, Any], **inputs: Any) -> RunFolder:
    """A run with nothing in it."""
    return RunFolder.create_or_resume(
        path, command=command, configuration=configuration, provenance={"inputs": inputs}
    )


def make_audit(path: Path, result: AuditResult, recipe: Recipe, text: str) -> None:
    """A finished audit of a recipe, with the items of one benchmark."""
    make_run(path, "audit", {"model": "demo"}, recipes={"1": recipe.content_hash})
    write_audit(path / "audit.json", result)
    items = [
        Item(f"item {k}", text, (Request(f"{text} {k}"), Request(" she", context=text))) for k in range(60)
    ]
    steps = np.arange(60.0)
    before = {"gap": steps, "women": steps}
    (path / "items").mkdir()
    write_items(
        path / "items" / f"{KEY}.csv", items, [before, {**before, "gap": steps * 1.5}], ["before", "after"]
    )


def make_debias(path: Path, result: DebiasResult, recipe: Recipe) -> None:
    """A finished debias run with the first recipes of its front; its dictionary is that of the extract run."""
    places = {one.evidence.hook_point: DICTIONARY for one in result.edited}
    make_run(path, "debias", {"model": "demo"}, dictionary=places)
    (path / "recipes").mkdir()
    for point in FRONT[:3]:
        write_recipe(recipe, path / point.recipe)
    write_recipe(recipe, path / "recipe.json")
    write_result(result, path / "result.json")


def make_study(path: Path, result: StudyResult) -> None:
    """A finished study."""
    make_run(path, "study", {"model": "demo"})
    write_study(result, path / "study.json")
    (path / "units.csv").write_text("set,unit\n", encoding="utf-8")


def make_senses(path: Path, tokens: list[str], model: str = "demo") -> None:
    """Finished senses of 120 features and of neurons; feature 0 has two senses, with contexts on disk."""
    run = make_run(
        path,
        "senses measure",
        {"model": model, "others": ["residual basis"], "hook_point": "blocks.15", "dictionary": NOTE},
        dictionary={"fingerprint": DICTIONARY},
    )
    rows = [
        SenseRow(
            "features",
            k,
            number=1 + (k % 4 == 0),
            effective=1.0 + k / 100,
            several=k / 120,
            tokens=[tokens, ["b"]],
        )
        for k in range(120)
    ]
    basis = [SenseRow("residual basis", k, number=None if k == 3 else 3, tokens=[["x"]]) for k in range(4)]
    with Catalog(run.catalog_path) as catalog:
        replace_senses(catalog, [*rows, *basis])
    positions = np.arange(40, dtype=np.int32)
    text = {"token": positions + 300, "before": positions + 299, "document": positions // 20}
    run.write_result("activity/shard-0000", {**text, "window": positions // 20, "offset": positions % 20})
    run.write_result("senses/features", _table(120))
    run.write_result("senses/residual-basis", _table(4))


def _table(units: int) -> dict[str, np.ndarray[Any, Any]]:
    floats = {
        name: np.ones(units, np.float32)
        for name in ("effective", "several", "separation", "token_entropy", "density")
    }
    return {
        **floats,
        "number": np.full(units, 2, np.int32),
        "documents": np.full(units, 2, np.int32),
        "position": np.tile(np.array([5, 25, 6, -1], np.int32), (units, 1)),
        "value": np.tile(np.array([4.0, 3.0, 2.0, 0.0], np.float32), (units, 1)),
        "label": np.tile(np.array([0, 1, 0, -1], np.int16), (units, 1)),
    }


def _audit(*, hostile: bool) -> AuditResult:
    if not hostile:
        return audit()
    plain = hostile_audit()
    return dataclasses.replace(
        plain, benchmarks=[dataclasses.replace(plain.benchmarks[0], key=KEY), *plain.benchmarks[1:]]
    )
