"""Events of work, sent to the browser as they come (server-sent events over ``fetch``)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, format_sse_event

from onesense.web.pages import finite
from onesense.web.work import Job, WorkQueue


def stream(queue: WorkQueue, job: Job, *, owned: bool) -> StreamingResponse:
    """Every event of a job until it ends.

    Args:
        queue: Where the job is.
        job: The job.
        owned: Whether the job ends when the browser goes away.
    """

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for event in job.events():
                if event is None:
                    yield format_sse_event(comment="still there")
                    continue
                data = json.dumps(finite(event.data), allow_nan=False)
                yield format_sse_event(event=event.name, data_str=data)
        finally:
            if owned and not job.state.ended:
                queue.cancel(job)

    return EventSourceResponse(lines(), headers={"x-accel-buffering": "no"})
