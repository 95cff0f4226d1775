"""The line of work: what runs, what waits, and how to end it."""

from __future__ import annotations

from fastapi.responses import JSONResponse, StreamingResponse

from onesense.errors import NotFoundError
from onesense.web.pages import Pages, View, json_answer
from onesense.web.service import Service, Uses
from onesense.web.streaming import stream
from onesense.web.work import Job

pages = Pages()


@pages.page("/work", "work.html.j2")
def work(uses: Uses) -> View:
    """Everything that runs, waits, or has ended since the server began."""
    return View("Work", {"jobs": [job.describe() for job in uses.queue.jobs()]})


@pages.get("/api/work/{job}/events", response_class=StreamingResponse)
def events(job: str, uses: Uses) -> StreamingResponse:
    """Every event of a piece of work until it ends; going away does not end it."""
    return stream(uses.queue, _known(uses, job), owned=False)


@pages.delete("/api/work/{job}", response_model=None)
def cancel(job: str, uses: Uses) -> JSONResponse:
    """End a piece of work."""
    known = _known(uses, job)
    uses.queue.cancel(known)
    return json_answer(known.describe())


def _known(uses: Service, name: str) -> Job:
    job = uses.queue.job(name)
    if job is None:
        raise NotFoundError(
            "There is no such work.", hint="It ended a while ago, or the server was started anew since."
        )
    return job
