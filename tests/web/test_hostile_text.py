"""What tokens, explanations, names and files say is text, whatever it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.explanations import ExplanationRow, write_explanations
from onesense.store.run_folder import RunFolder

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


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, demo_run: Path) -> Path:
    """Runs whose names, tokens, explanations and settings are payloads."""
    folder = tmp_path_factory.mktemp("hostile") / "onesense-runs"
    folder.mkdir()
    shutil.copytree(demo_run / "demo", folder / "demo")
    with Catalog(folder / "demo" / "catalog.sqlite") as catalog:
        rows = [
            FeatureRow(feature, density=0.5, max_activation=1.0, top_tokens=PAYLOADS, bottom_tokens=PAYLOADS)
            for feature in range(len(PAYLOADS))
        ]
        catalog.replace_features(rows)
        write_explanations(
            catalog,
            [ExplanationRow(number, model=text, text=text) for number, text in enumerate(PAYLOADS)]
            + [ExplanationRow(0, model="b", status="http_error", detail=PAYLOADS[0])],
        )
    name = "<img src=x onerror=window.broken=1>"
    RunFolder.create_or_resume(
        folder / name,
        command="audit",
        configuration={"model": PAYLOADS[0], PAYLOADS[1]: PAYLOADS[2]},
        provenance={"inputs": {"model": {"name": PAYLOADS[1]}}},
    )
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text(json.dumps({"schema_version": PAYLOADS[0]}))
    (folder / "recipes").mkdir()
    (folder / "recipes" / f"{name}.json").write_text(json.dumps({"note": PAYLOADS[0]}))
    return folder


def test_no_payload_is_ever_more_than_text(
    page: Page, hostile: Path, start_server: Callable[..., str], faults: list[str]
) -> None:
    server = start_server(str(hostile), cwd=hostile.parent)
    page.goto(server)
    runs = page.evaluate("fetch('/index.json').then((answer) => answer.json())")["sections"]
    runs = [run for section in runs for run in section["runs"]]
    assert len(runs) == 3
    addresses = [
        "/",
        "/features",
        "/steer",
        "/tune",
        "/reports",
        "/senses",
        "/work",
        "/runs/demo/features?q=window",
    ]
    addresses += [f"/runs/{run['id']}" for run in runs] + [
        f"/runs/demo/features/{number}" for number in (0, 3, 6)
    ]
    addresses += [
        "/runs/%3Cscript%3Ewindow.broken=1%3C%2Fscript%3E",
        "/steer?prompt=%3C/textarea%3E%3Cscript%3Ewindow.broken=1%3C/script%3E",
    ]
    for address in addresses:
        page.goto(server + address)
        page.wait_for_timeout(300)
        assert page.evaluate("window.broken") is None, address
        assert "49{%" not in page.content(), address
        assert page.locator("img").count() == 0, address
    said = [one for one in faults if "404" not in one]
    faults.clear()
    assert said == []
