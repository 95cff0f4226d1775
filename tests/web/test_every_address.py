"""Every address of the page, with every kind of input: no error of the server, and nothing of its insides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.core import NotSet

from browser import ADDRESS
from onesense.web.app import create_app
from onesense.web.security import CHANGE_HEADER
from onesense.web.work import Job, WorkQueue
from onesense.web.workspace import Workspace

_EXAMPLES = 12


class Refusing(WorkQueue):
    """A line of work that does none: here the questions are tested, not the model."""

    def submit(self, kind: str, title: str, run: Any) -> Job:
        def nothing(job: Job) -> dict[str, Any]:
            del job
            return {}

        del run
        return super().submit(kind, title, nothing)


@pytest.fixture
def app(demo_run: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    monkeypatch.setattr("onesense.web.app.WorkQueue", Refusing)
    made = create_app(Workspace([demo_run], demo_run), warm=False)
    yield made
    made.state.service.queue.close()


def test_no_question_breaks_the_server(app: FastAPI) -> None:
    schema = schemathesis.openapi.from_dict(app.openapi())
    # The life of the application is not begun: nothing is loaded, and the line of work does nothing.
    client = TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)
    asked = set()

    for found in schema.get_all_operations():
        operation = found.ok()
        asked.add(operation.label)

        @given(case=operation.as_strategy())
        @settings(
            max_examples=_EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
        )
        def ask(case: schemathesis.Case) -> None:
            body = {} if isinstance(case.body, NotSet) else {"json": case.body}
            answer = client.request(
                case.method,
                case.formatted_path,
                params=case.query,
                headers={CHANGE_HEADER: "1", "accept": "text/html"},
                follow_redirects=False,
                **body,
            )
            assert answer.status_code < 500, answer.text
            assert "Traceback" not in answer.text

        ask()
    assert {"GET /", "GET /runs/{run}/features/{feature}", "POST /api/steer"} <= asked
