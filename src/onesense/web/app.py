"""The application: what answers, and what it may use."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from onesense import __version__
from onesense.errors import OnesenseError
from onesense.web.pages import error_answer
from onesense.web.resident import Resident
from onesense.web.routes import feature, features, reports, runs, senses, steer, tune, work
from onesense.web.security import LocalOnly
from onesense.web.service import Service
from onesense.web.work import WorkQueue
from onesense.web.workspace import Workspace

_logger = logging.getLogger(__name__)


def create_app(workspace: Workspace, *, device: str = "auto", warm: bool = True) -> FastAPI:
    """The application.

    Args:
        workspace: What there is to look at.
        device: Where models run.
        warm: Load the features and the model of the first run in the background: the first question is quick.
    """
    given = Service(workspace, Resident(device), WorkQueue())

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        del app
        if warm:
            threading.Thread(target=_warm, args=(given,), name="onesense-warm", daemon=True).start()
        yield
        given.queue.close()

    app = FastAPI(
        title="onesense",
        version=__version__,
        lifespan=life,
        docs_url=None,  # its scripts come from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.service = given
    app.add_middleware(LocalOnly)
    _add_errors(app)
    _add_routes(app)
    return app


def _add_routes(app: FastAPI) -> None:
    for module in (runs, features, feature, steer, tune, reports, senses, work):
        app.include_router(module.pages)
    package = Path(str(files("onesense.web")))
    app.mount("/static", StaticFiles(directory=package / "static"), name="static")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(OnesenseError)
    def told(request: Request, error: OnesenseError) -> Response:
        return error_answer(request, error.http_status, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        lines = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
        return error_answer(request, 422, "; ".join(lines)[:1000], "Correct the address or the form.")

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        message = "There is no such page." if error.status_code == 404 else str(error.detail)
        answer = error_answer(request, error.status_code, message, "The list of runs shows what there is.")
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> Response:
        _logger.error("%s %s", request.method, request.url.path, exc_info=error)
        return error_answer(
            request,
            500,
            "Something went wrong that should not.",
            "The terminal of `onesense serve` says what; please report it.",
        )


def _warm(given: Service) -> None:
    """Load what the first page will ask for; what goes wrong is told when it is asked for."""
    first = next(iter(given.workspace.of_command("extract")), None)
    if first is not None:
        _try(lambda: given.tables.table(first, given.workspace.runs()))
        _try(lambda: given.resident.tokens(first.fact("model")))
    model = next((known.model for known in given.workspace.dictionaries()), None)
    if model is not None:
        _try(lambda: given.resident.model(model))


def _try(load: Callable[[], object]) -> None:
    try:
        load()
    except OnesenseError as error:
        _logger.warning("Not everything could be loaded yet: %s", error.message)
