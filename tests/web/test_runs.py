"""The runs without a browser: what is said of each, and that no folder can break the page."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from browser import ADDRESS
from onesense.cli.main import app as command_line
from onesense.engine.stages import Silent
from onesense.store.progress import RecordedStages
from onesense.store.provenance import provenance
from onesense.store.run_folder import RUN_FILE, RunFolder
from onesense.web.app import create_app
from onesense.web.run_details import facts, files
from onesense.web.workspace import Workspace
from web.feature_runs import make_debias_run, make_extract_run, make_senses_run

NAMES = [
    "<script>alert(1)", "a\nb", "\u202egnp.exe", "x" * 200, "{{7*7}}", "..", "%2e%2e", "';--", "\udcff", "日本",
    " ", "a&b=c#d?e", "onesense-tmp",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_extract_run(tmp_path / "runs" / "ex")
    make_senses_run(tmp_path / "runs" / "senses")
    make_debias_run(tmp_path / "runs" / "de")
    return tmp_path / "runs"


@pytest.fixture
def asked(folder: Path) -> Iterator[TestClient]:
    with _client(folder) as client:
        yield client


def _client(folder: Path) -> TestClient:
    app = create_app(Workspace([folder], folder), warm=False)
    headers = {"x-onesense": "1"}
    return TestClient(app, base_url=ADDRESS, headers=headers, raise_server_exceptions=False)


def _make(path: Path, command: str = "extract", **configuration: Any) -> RunFolder:
    return RunFolder.create_or_resume(
        path,
        command=command,
        configuration={"model": "demo", **configuration},
        provenance=provenance(model={"name": "demo", "fingerprint": "ab"}, seeds=3),
    )


def _runs(client: TestClient) -> dict[str, dict[str, Any]]:
    sections = client.get("/index.json").json()["sections"]
    return {run["id"]: run for section in sections for run in section["runs"]}


def _both(client: TestClient, address: str) -> list[int]:
    """Status of a page and of its twin."""
    twin = "/index.json" if address == "/" else f"{address}.json"
    return [client.get(one).status_code for one in (address, twin)]


def test_nothing_there_says_what_to_type(tmp_path: Path) -> None:
    with _client(tmp_path / "none") as client:
        page = client.get("/").text
        assert "onesense extract demo" in page
        assert client.get("/index.json").json()["count"] == 0


def test_a_finished_run_leads_to_its_pages_and_a_stopped_one_to_how_it_goes_on(asked, folder) -> None:
    (folder / "ex" / "lens.safetensors").touch()
    _make(folder / "stopped", contexts={"max_tokens": 50_000})
    runs = _runs(asked)
    assert runs["ex"]["state"] == "finished"
    assert runs["ex"]["links"] == [{"title": "Features", "address": "/runs/ex/features"}]
    assert asked.get(runs["ex"]["links"][0]["address"]).status_code == 200
    assert runs["stopped"]["state"] == "stopped"
    assert runs["stopped"]["links"] == []
    assert "50,000 tokens at most" in runs["stopped"]["sizes"]
    assert "The same command goes on" in asked.get("/").text
    assert asked.get("/index.json").json()["searched"] == {"id": "ex", "name": "ex"}


def test_a_run_that_a_command_writes_to_shows_how_far_it_is(asked: TestClient, folder: Path) -> None:
    run = _make(folder / "at-work")
    with run.lock(), RecordedStages(Silent(), run.path).stage("Reading <b>", "tokens"):
        told = _runs(asked)["at-work"]
        assert told["state"] == "running"
        assert told["progress"] == {
            "process": os.getpid(), "title": "Reading <b>", "unit": "tokens", "done": 0, "total": None,
        }  # fmt: skip
        for address in ("/", "/runs/at-work"):
            assert "Reading &lt;b&gt;" in asked.get(address).text
        assert asked.get("/index.json").json()["running"] == 1
    assert _runs(asked)["at-work"]["state"] == "stopped"


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_be_called_anything(asked: TestClient, folder: Path, name: str) -> None:
    made = folder / "made"
    _make(made, dictionary=name, hook_point=name)
    if name != "..":
        made.rename(folder / f"{name}")
    for known in asked.app.state.service.workspace.runs():  # type: ignore[attr-defined]
        assert _both(asked, f"/runs/{known.id}") == [200, 200]
    assert _both(asked, "/") == [200, 200]
    page = asked.get("/").text
    assert "<script>alert" not in page
    assert "\u202e" not in page


def test_two_runs_of_one_name_have_pages_of_their_own(tmp_path: Path) -> None:
    for place, size in (("a", 10), ("b", 20)):
        _make(tmp_path / place / "same", contexts={"max_tokens": size})
    app = create_app(Workspace([tmp_path / "a", tmp_path / "b"], tmp_path / "a"), warm=False)
    with TestClient(app, base_url=ADDRESS) as client:
        assert client.get("/runs/same.json").json()["run"]["sizes"] == ["10 tokens at most"]
        assert client.get("/runs/same-2.json").json()["run"]["sizes"] == ["20 tokens at most"]


def _deep(levels: int) -> str:
    return '{"schema_version": 1, "configuration": ' + '{"a":' * levels + "1" + "}" * levels + "}"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema_version": 99}', '{"schema_version": 1}', '{"schema_version": NaN}',
     _deep(500), _deep(100_000), '{"schema_version": 1, "command": 1, "configuration": [[1]], "provenance": 3}'],
)  # fmt: skip
def test_a_run_that_cannot_be_read_says_why(asked: TestClient, folder: Path, text: str) -> None:
    _make(folder / "bad")
    (folder / "bad" / RUN_FILE).write_text(text)
    told = _runs(asked)["bad"]
    assert told["state"] == "damaged"
    assert told["problem"]
    assert "damaged" in asked.get("/").text
    assert _both(asked, "/runs/bad") == [404, 404]
    assert _runs(asked)["ex"]["state"]


ODD = [None, True, -1, 1.5, "x", "\ud800\x00", [], [[]], {}, {"a": None}, 10**40, "y" * 5000]


@pytest.mark.parametrize(
    "command", ["extract", "senses measure", "debias", "audit", "study", "interpret", "other"]
)
def test_settings_of_any_kind_are_shown(asked: TestClient, folder: Path, command: str) -> None:
    names = ("model", "contexts", "features", "tokens", "others", "budgets", "benchmarks", "variants", "sets", "tune",
             "find", "dictionary", "hook_point", "suite", "group_sizes", "with_contexts", "trials")  # fmt: skip
    for number, odd in enumerate(ODD):
        RunFolder.create_or_resume(
            folder / f"odd-{number}",
            command=command,
            configuration=dict.fromkeys(names, odd),
            provenance={"inputs": odd, "seeds": odd, "software": odd},
        )
        assert _both(asked, f"/runs/odd-{number}") == [200, 200]
    assert _both(asked, "/") == [200, 200]


def test_settings_that_lie_deep_inside_one_another_are_shown(asked: TestClient, folder: Path) -> None:
    deep: Any = 1
    for _ in range(150):
        deep = {"a": [deep]}
    _make(folder / "deep", value=deep)
    assert _both(asked, "/runs/deep") == [200, 200]
    assert _both(asked, "/") == [200, 200]


def test_a_folder_that_goes_away_meanwhile_is_told(asked: TestClient, folder: Path) -> None:
    assert _both(asked, "/runs/ex") == [200, 200]
    shutil.rmtree(folder / "ex")
    assert _both(asked, "/runs/ex") == [404, 404]
    assert _both(asked, "/") == [200, 200]
    shutil.rmtree(folder)
    assert _both(asked, "/") == [200, 200]


def test_files_that_go_away_while_they_are_listed_are_left_out(tmp_path: Path, monkeypatch) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    real = Path.is_file

    def goes_away(self: Path) -> bool:
        if self.name == "a.json":
            self.unlink()
            return True
        return real(self)

    monkeypatch.setattr(Path, "is_file", goes_away)
    assert [one.name for one in files(tmp_path)] == ["b.json"]
    assert files(tmp_path / "none") == []


def test_files_are_told_by_folder_without_hidden_ones_and_links(tmp_path: Path) -> None:
    for name in ("run.json", ".lock", "items/a.csv", "items/deep/b.csv", "catalog.sqlite-wal"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("12")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert files(tmp_path) == [("run.json", 1, 2), ("items/", 2, 4)]


def test_settings_become_one_list() -> None:
    found = facts({"a": {"b": 1, "c": [1, 2]}, "d": None, "e": True, "f": {}, "g": [{"h": 1}]})
    assert found == [
        ("a.b", "1"),
        ("a.c", "1, 2"),
        ("d", "–"),
        ("e", "yes"),
        ("f", "{}"),
        ("g", '[{"h": 1}]'),
    ]


@pytest.mark.parametrize(
    ("command", "settings", "told"),
    [
        ("extract", {"dictionary": "demo/blocks.1.x", "contexts": {"max_tokens": 9, "top_k": 20}, "lens": "raw"},
         "extract demo --sae-release demo --sae-id blocks.1.x --max-tokens 9 --lens raw --seed 3"),
        ("senses measure", {"dictionary": "demo/blocks.1.x", "tokens": 5, "others": ["neurons"], "contexts": 128},
         "senses measure demo --sae-release demo --sae-id blocks.1.x --max-tokens 5 --beside neurons --seed 3"),
        ("debias", {"budgets": [0.01], "tune": {"steps": 3}, "thresholds": True},
         "debias demo --budget 0.01 --thresholds --steps 3 --seed 3"),
        ("audit", {"suite": "quick", "draws": 10_000}, "audit demo --suite quick --seed 3"),
        ("audit", {"suite": None, "benchmarks": {"kl": 1}}, "audit demo --benchmark kl --seed 3"),
    ],
)  # fmt: skip
def test_the_command_of_a_run_is_one_that_the_command_line_takes(
    asked, folder, command, settings, told
) -> None:
    from typer.main import get_command

    _make(folder / "a run", command, **settings)
    again = asked.get("/runs/a-run.json").json()["again"]
    words = shlex.split(again["command"])
    assert words == ["onesense", *told.split(), "--run-folder", str(folder / "a run")]
    found: Any = get_command(command_line)
    rest = words[1:]
    while hasattr(found, "commands"):
        found = found.commands[rest.pop(0)]
    found.make_context("onesense", rest)  # raises on an option that it does not have


def test_what_the_command_lacks_is_said(asked: TestClient, folder: Path) -> None:
    _make(folder / "st", "study", group_sizes=[10, 25, 50])
    again = asked.get("/runs/st.json").json()["again"]
    assert again["command"] == f"onesense study --seed 3 --run-folder {folder / 'st'}"
    assert again["missing"] == ["--senses, the runs of senses that it relates"]


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 422), ({"run": "none"}, 404), ({"recipe": "../../x"}, 404), ({"run": "ex", "suite": "full"}, 422),
     ({"run": "ex", "model": "/etc"}, 422), ({"run": "x" * 300}, 422), ({"run": 3}, 422), ([], 422)],
)  # fmt: skip
def test_audits_that_cannot_be_are_refused(asked: TestClient, body: Any, status: int) -> None:
    answer = asked.post("/api/audits", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert asked.get("/work.json").json()["jobs"] == []


def test_an_audit_of_a_model_that_is_not_there_fails_with_a_reason(asked: TestClient, folder: Path) -> None:
    _make(folder / "gone", "audit", model=str(folder / "no-model"))
    job = asked.post("/api/audits", json={"run": "gone"}).json()["job"]
    events = asked.get(f"/api/work/{job}/events").text
    assert "event: failed" in events
    assert json.loads(events.rsplit("data: ", 1)[1])["message"]
