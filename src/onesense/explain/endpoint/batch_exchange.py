"""What is said to the Batch API, call by call: tried again while that can help, and never submitted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import openai
from openai.types import Batch, FileObject

from onesense.errors import EndpointError
from onesense.explain.endpoint.batch_files import plain_line
from onesense.store.atomic import atomic_path

Returned = TypeVar("Returned")
Sleep = Callable[[float], Awaitable[object]]

MOST_ATTEMPTS = 6
MOST_FAILED_LOOKS = 30
"""Failed looks at a batch, one after the other, over 25 minutes. A batch takes up to a day, so its endpoint may be away
for a while; the next run of the command goes on with it."""

_FIRST_WAIT, _LONGEST_WAIT, _GROWTH = 5.0, 60.0, 1.5
_MOST_LISTED = 1000
_UPLOAD_SECONDS = 600.0
_MOST_BYTES_A_RESULT = 2_000_000
_NO_MORE_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_TRY_AGAIN = (408, 409, 425, 429)
_RUN_AGAIN = "Nothing is lost: run the same command again to go on with the same batch."


class _TransientError(Exception):
    """Worth another attempt."""


class MissingError(Exception):
    """The endpoint does not know a batch or file; the message is for people."""


@dataclass(frozen=True, slots=True)
class BatchExchange:
    """The calls.

    Attributes:
        client: Client of the endpoint; its own retries are not used.
        clean: Takes the key out of a text of the endpoint.
        sleep: Waits so many seconds.
    """

    client: openai.AsyncOpenAI
    clean: Callable[[str], str]
    sleep: Sleep = asyncio.sleep

    async def upload(self, path: Path) -> str:
        """Upload a file of questions.

        Returns:
            The endpoint's id of the file.

        Raises:
            EndpointError: Refused, or not reachable.
        """

        async def call() -> str:
            client = self.client.with_options(timeout=_UPLOAD_SECONDS, max_retries=0)
            uploaded = await client.files.create(file=path, purpose="batch")
            return _id(uploaded, FileObject)

        return await self._patiently(call, "The file of the batch could not be uploaded")

    async def submit(self, file_id: str, *, perhaps_submitted: bool) -> str:
        """Submit an uploaded file as a batch, once.

        An answer that does not arrive does not say that nothing was submitted, so the endpoint's list of batches is
        looked at before it is submitted again.

        Args:
            file_id: The endpoint's id of the file.
            perhaps_submitted: Whether an earlier call was broken off before its answer was there.

        Returns:
            The endpoint's id of the batch.

        Raises:
            EndpointError: Refused, not reachable, or it cannot be told whether it was submitted.
        """
        unsure = perhaps_submitted

        async def call() -> str:
            nonlocal unsure
            if unsure:
                found = await self._find(file_id)
                if found is not None:
                    return found
            unsure = True
            client = self.client.with_options(max_retries=0)
            created = await client.batches.create(
                input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            return _id(created, Batch)

        return await self._patiently(call, "The batch could not be submitted")

    async def look(self, batch_id: str) -> Batch:
        """Ask how far a batch is.

        Raises:
            EndpointError: Refused, or not reachable for 25 minutes.
            MissingError: The endpoint has no such batch.
        """

        async def call() -> Batch:
            batch = await self.client.with_options(max_retries=0).batches.retrieve(batch_id)
            _id(batch, Batch)
            return batch

        return await self._patiently(call, f"Nothing can be learnt of batch {batch_id}", MOST_FAILED_LOOKS)

    async def download(self, file_id: str, target: Path, requests: int) -> None:
        """Save a result file.

        Raises:
            EndpointError: Refused, not reachable, or larger than results can be.
            MissingError: The endpoint has no such file.
            StorageError: It cannot be written.
        """
        most = _MOST_BYTES_A_RESULT * max(1, requests)

        async def call() -> None:
            files = self.client.with_options(max_retries=0).files
            async with files.with_streaming_response.content(file_id) as response:
                with atomic_path(target) as temporary, temporary.open("wb") as file:
                    async for chunk in response.iter_bytes():
                        file.write(chunk)
                        if file.tell() > most:
                            raise EndpointError(f"The results of the batch have more than {most:,} bytes.")

        await self._patiently(call, "The results of the batch could not be fetched")

    async def _find(self, file_id: str) -> str | None:
        """The batch of a file, in the endpoint's list."""
        seen = 0
        try:
            async for batch in self.client.with_options(max_retries=0).batches.list(limit=100):
                seen += 1
                if isinstance(batch, Batch) and batch.input_file_id == file_id:
                    return _id(batch, Batch)
                if seen >= _MOST_LISTED:
                    break
        except openai.APIStatusError as error:
            if error.status_code in _TRY_AGAIN or error.status_code >= 500:
                raise
            raise EndpointError(
                "It cannot be told whether the batch was submitted: the endpoint does not list its batches "
                f"(HTTP {error.status_code}).",
                hint="Look at the endpoint's own page of batches, or ask without --batch.",
            ) from None
        return None

    async def _patiently(
        self, call: Callable[[], Awaitable[Returned]], what: str, most_attempts: int = MOST_ATTEMPTS
    ) -> Returned:
        wait = _FIRST_WAIT
        for attempt in range(1, most_attempts + 1):
            try:
                return await call()
            except Exception as error:
                reason = self._reason(error, what)
            if attempt < most_attempts:
                await self.sleep(wait)
                wait = longer(wait)
        raise EndpointError(f"{what}: {reason}, {most_attempts} times.", hint=_RUN_AGAIN)

    def _reason(self, error: Exception, what: str) -> str:
        """Why an attempt failed, where another can help; raises the error for people where none can."""
        if isinstance(error, openai.APIStatusError):
            return self._reason_of_status(error, what)
        if isinstance(error, openai.APITimeoutError):
            return "no answer in time"
        if isinstance(error, openai.APIConnectionError | openai.APIResponseValidationError):
            return (
                "no connection"
                if isinstance(error, openai.APIConnectionError)
                else "not an answer of this interface"
            )
        if isinstance(error, _TransientError):
            return str(error)
        if isinstance(error, ValueError):
            return "an answer that is not JSON"
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            return "the connection broke off"  # raised as it is while a body is being read
        raise error

    def _reason_of_status(self, error: openai.APIStatusError, what: str) -> str:
        status = error.status_code
        said = self.clean(plain_line(str(error.message)))[:200]
        if status in (401, 403):
            raise EndpointError(
                f"{what}: the endpoint refuses the API key (HTTP {status}).",
                hint="Check OPENAI_API_KEY, and that the key may use files and batches.",
            ) from None
        if status == 404:
            raise MissingError(f"{what}: HTTP 404") from None
        if error.code in _NO_MORE_MONEY:
            raise EndpointError(
                f"{what}: the account has no quota left.", hint=f"Check its billing. {_RUN_AGAIN}"
            ) from None
        if status in _TRY_AGAIN or status >= 500:
            return f"HTTP {status}"
        raise EndpointError(
            f"{what}: HTTP {status}: {said}.", hint="Ask without --batch where the endpoint has none."
        ) from None


def longer(wait: float) -> float:
    """The next interval, in seconds."""
    return min(_LONGEST_WAIT, wait * _GROWTH)


def _id(answered: object, kind: type[Batch] | type[FileObject]) -> str:
    """Id in an answer; the client does not check what endpoints send."""
    found = getattr(answered, "id", None) if isinstance(answered, kind) else None
    if not isinstance(found, str) or not found:
        raise _TransientError("an answer without an id")
    return found
