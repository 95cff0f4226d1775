"""A folder with a run of every kind whose names and texts try to be more than text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from onesense.steer.recipe import ModelReference, Recipe, write_recipe
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.explanations import ExplanationRow, write_explanations
from onesense.store.run_folder import RunFolder
from web.report_runs import make_runs

PAYLOADS = [
    "<script>window.broken=1</script>",
    '"><img src=x onerror="window.broken=1">',
    "</script><script>window.broken=1</script>",
    "javascript:window.broken=1",
    "{{7*7}}{% raw %}",
    "<!--",
    "\u202egnp.exe\u2028\u0000\u001b[31m",
    "' onmouseover='window.broken=1' x='",
    "=cmd|' /C calc'!A0",
    "<svg onload=window.broken=1>",
]
TITLE = "<img src=x onerror=window.broken=1>"


def make_hostile_runs(folder: Path, demo: Path) -> Path:
    """Fill a folder.

    Args:
        folder: Where the runs go; is made.
        demo: A run of `onesense extract`; a copy of it gets other tokens and explanations.
    """
    make_runs(folder, hostile=True)
    shutil.copytree(demo, folder / "demo")
    with Catalog(folder / "demo" / "catalog.sqlite") as catalog:
        rows = [
            FeatureRow(feature, density=0.5, max_activation=1.0, top_tokens=PAYLOADS, bottom_tokens=PAYLOADS)
            for feature in range(len(PAYLOADS))
        ]
        catalog.replace_features(rows)
        said = [ExplanationRow(number, model=text, text=text) for number, text in enumerate(PAYLOADS)]
        write_explanations(
            catalog, [*said, ExplanationRow(0, model="b", status="http_error", detail=PAYLOADS[0])]
        )
    RunFolder.create_or_resume(
        folder / TITLE,
        command="audit",
        configuration={"model": PAYLOADS[0], PAYLOADS[1]: PAYLOADS[2]},
        provenance={"inputs": {"model": {"name": PAYLOADS[1]}}},
    )
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text(json.dumps({"schema_version": PAYLOADS[0]}))
    (folder / "recipes").mkdir()
    (folder / "recipes" / f"{TITLE}.json").write_text(json.dumps({"note": PAYLOADS[0]}))
    recipe = Recipe(model=ModelReference(name=PAYLOADS[0], fingerprint="f" * 64), note=PAYLOADS[2])
    write_recipe(recipe, folder / "recipes" / "{{7*7}}.json")
    return folder
