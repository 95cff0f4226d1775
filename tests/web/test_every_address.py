"""Every address of the page, with every kind of input: no error of the server, and nothing of its insides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.core import NotSet
from schemathesis.schemas import APIOperation

from browser import ADDRESS
from onesense.web.app import create_app
from onesense.web.security import CHANGE_HEADER
from onesense.web.work import Job, WorkQueue
from onesense.web.workspace import Workspace
from web.addresses import INSIDES, fitting, known_names, reader, with_known
from web.hostile_runs import make_hostile_runs

_EXAMPLES = 12
# What else is random would be refused before the rest is looked at.
_SENSIBLE = {
    "sort": ["", "", "", "density", "match", "tokens", "several"],
    "order": ["down", "up", "down", "asc"],
    "page": ["", "1", "2"],
    "per": ["", "50"],
    "go": ["", "1"],
    "units": ["", "features"],
    "feature": ["0", "3"],
    **{f"{name}_from": ["", "0", "0.5"] for name in ("density", "max", "senses", "effect", "score")},
    **{f"{name}_to": ["", "1e9"] for name in ("density", "max")},
}
_NEEDS_MORE = {
    "POST /api/recipes",  # a recipe of the demo's features needs the model
    "POST /api/recipes/tuned",
    "GET /api/work/{job}/events",
    "DELETE /api/work/{job}",
    # Names that must belong together; test_every_page_is_text.py asks for every combination.
    "GET /api/edits/describe",
    "GET /runs/{run}/{command}/files/{name}",
}


class Refusing(WorkQueue):
    """A line of work that does none: here the questions are tested, not the model."""

    def submit(self, kind: str, title: str, run: Any) -> Job:
        def nothing(job: Job) -> dict[str, Any]:
            del job
            return {}

        del run
        return super().submit(kind, title, nothing)


@pytest.fixture
def app(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    monkeypatch.setattr("onesense.web.app.WorkQueue", Refusing)
    made = create_app(Workspace([folder], folder), warm=False)
    yield made
    made.state.service.queue.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, demo_run: Path) -> Path:
    """Runs of every kind, and a recipe: most names that are asked for are theirs."""
    return make_hostile_runs(tmp_path_factory.mktemp("asked") / "onesense-runs", demo_run / "demo")


def ask_everything(client: TestClient, operation: APIOperation, names: dict[str, list[str]]) -> set[int]:
    """The statuses that an address answers to made-up input, half of it with names that are there."""
    statuses: set[int] = set()

    @given(case=operation.as_strategy(), known=st.booleans(), chance=st.randoms(use_true_random=False))
    @settings(
        max_examples=_EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    def ask(case: schemathesis.Case, known: bool, chance: Random) -> None:
        body = {} if isinstance(case.body, NotSet) else {"json": case.body}
        query = dict(case.query or {})
        if known:
            body = with_known(body, names, chance.choice)
            query = with_known(query, names, chance.choice)
            parts = {key: names.get(key) or [str(one)] for key, one in case.path_parameters.items()}
            case.path_parameters = {key: chance.choice(given) for key, given in parts.items()}
        answer = client.request(
            case.method,
            case.formatted_path,
            params=query,
            headers={CHANGE_HEADER: "1", "accept": "text/html"},
            follow_redirects=False,
            **body,
        )
        statuses.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        assert not INSIDES.search(answer.text)

    ask()
    return statuses


def test_no_question_breaks_the_server(app: FastAPI) -> None:
    schema = schemathesis.openapi.from_dict(app.openapi())
    # The life of the application is not begun: nothing is loaded, and the line of work does nothing.
    client = TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)
    names = known_names(reader(client)) | _SENSIBLE
    found = {}
    for one in schema.get_all_operations():
        operation = one.ok()
        found[operation.label] = ask_everything(client, operation, fitting(operation.path, names))
    assert {"GET /", "GET /runs/{run}/features/{feature}", "POST /api/steer"} <= set(found)
    # What was never answered was not tested: its names or values do not fit.
    assert {label for label, statuses in found.items() if not statuses & {200, 303, 307}} <= _NEEDS_MORE
