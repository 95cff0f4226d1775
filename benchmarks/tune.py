"""How long the page's quick audit takes after a slider is let go.

``python -m benchmarks.tune`` gives the demo model a recipe of 51 features at three depths, asks the application for the
quick audit of one changed factor after the other, as the page does, and reports the time until its numbers are there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fastapi.testclient import TestClient

from benchmarks.web import tail
from onesense.model.load import load_model
from onesense.sae.load import demo_ids, load_dictionary
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import make_recipe
from onesense.web.app import create_app
from onesense.web.workspace import Workspace

LIMIT_S = 4.0
CHANGES, FEATURES = 12, 17
_STEP = 271
_HEADERS = {"x-onesense": "1"}


def measured(folder: Path, changes: int) -> tuple[float, list[float]]:
    """Seconds of the first quick audit, which loads and prepares, and of each one after a change."""
    dictionaries = [load_dictionary(release="demo", sae_id=one) for one in demo_ids()]
    features = range(_STEP, _STEP * (FEATURES + 1), _STEP)
    groups = [
        EditGroup(one, [Edit(feature=feature, operation=Operation.SCALE, value=0.5) for feature in features])
        for one in dictionaries
    ]
    workspace = Workspace([folder], folder)
    recipe = workspace.save_recipe("benchmark", make_recipe(load_model("demo"), groups)).id
    keys = [one.key for one in workspace.dictionaries()]
    times = []
    with TestClient(
        create_app(workspace, warm=False), base_url="http://127.0.0.1:8377", headers=_HEADERS
    ) as client:
        for number in range(changes + 1):
            factor = {
                "dictionary": keys[number % len(keys)],
                "feature": features[number % FEATURES],
                "factor": 0.1,
            }
            began = time.perf_counter()
            answer = client.post("/api/tune/measure", json={"recipe": recipe, "factors": [factor]})
            times.append(time.perf_counter() - began)
            if "event: done" not in answer.text:
                raise SystemExit(answer.text)
    return times[0], times[1:]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three changes")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        first, times = measured(Path(name), 3 if options.quick else CHANGES)
    print(
        f"{len(times)} changes one after the other, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    )
    print(f"first, which loads the model and measures it unedited: {first:.1f} s")
    print(f"a change: p50 {statistics.median(times):.2f} s, p95 {tail(times):.2f} s, most {max(times):.2f} s")
    print(f"wanted at most {LIMIT_S:g} s: {'yes' if tail(times) <= LIMIT_S else 'NO'}")
    print(
        json.dumps({"benchmark": "tune", "first": first, "p50": statistics.median(times), "p95": tail(times)})
    )


if __name__ == "__main__":
    main()
