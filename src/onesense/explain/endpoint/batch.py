"""Questions that wait in the cheaper queue of OpenAI's Batch API.

Where the batch is stands in a file beside the questions, written before and after every step: a command that was killed
goes on with the same batch. Questions are submitted once: a batch whose submission was broken off is looked for in the
endpoint's list. Whoever uses a folder holds the lock of the run that it is in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import openai
from openai.types import Batch
from pydantic import BaseModel, ConfigDict, ValidationError

from onesense.errors import EndpointError, FormatError, IncompatibleError
from onesense.explain.endpoint.batch_exchange import BatchExchange, MissingError, Sleep, longer
from onesense.explain.endpoint.batch_files import (
    MOST_BYTES,
    MOST_REQUESTS,
    NOT_ANSWERED,
    BatchFile,
    BatchResult,
    ResultFaults,
    custom_ids,
    plain_line,
    read_results,
    write_batch_files,
)
from onesense.explain.endpoint.chat import Answer, ChatReply, ChatRequest
from onesense.store.atomic import read_json, write_json
from onesense.store.provenance import file_sha256

STATE_FILE = "batch.json"

_ENDED = ("completed", "failed", "expired", "cancelled")
_FIRST_LOOK = 5.0
_ASK_THE_REST = "Run the same command again to ask the rest."


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many questions are how far; written out as OpenAI's client writes the counts of files."""

    cancelled: int
    completed: int
    failed: int
    in_progress: int
    total: int


class _Part(BaseModel):
    """One file of questions, and how far it is."""

    model_config = ConfigDict(extra="forbid")

    name: str
    sha256: str
    requests: int
    file_id: str | None = None
    submitting: bool = False
    batch_id: str | None = None
    status: str = "waiting"
    completed: int = 0
    failed: int = 0
    problem: str = ""
    results: list[str] | None = None

    @property
    def ended(self) -> bool:
        return self.results is not None


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    base_url: str
    parts: list[_Part]


class BatchQueue:
    """Questions in a folder, on their way through the Batch API. Use :meth:`create` or :meth:`open`.

    Attributes:
        folder: Where questions, state and results are.
        faults: Lines of the results that were left out, counted while :meth:`results` is read.
    """

    def __init__(self, folder: Path, state: _State) -> None:
        self.folder = folder
        self.faults = ResultFaults()
        self._state = state

    @classmethod
    def create(
        cls,
        folder: Path,
        questions: Iterable[tuple[str, ChatRequest[Any]]],
        body: Callable[[ChatRequest[Any]], Mapping[str, Any]],
        *,
        base_url: str,
        most_requests: int = MOST_REQUESTS,
        most_bytes: int = MOST_BYTES,
    ) -> BatchQueue:
        """Write questions for a batch, or find them written already. Nothing is sent.

        Args:
            folder: Where everything goes; nothing else is in it.
            questions: Their names (such as ``"4711/detection"``), each one once, and the questions.
            body: Makes the body of a chat completion of a question.
            base_url: Address of the endpoint.
            most_requests: Most questions of one batch.
            most_bytes: Most bytes of one batch.

        Raises:
            IncompatibleError: A batch of other questions is in the folder.
            ConfigurationError: No question, two of one name, or one that is too large.
            StorageError: The folder cannot be written.
        """
        files = write_batch_files(questions, folder, body, most_requests=most_requests, most_bytes=most_bytes)
        queue = cls.open(folder)
        if queue is None:
            parts = [_Part(name=file.name, sha256=file.sha256, requests=file.requests) for file in files]
            queue = cls(folder, _State(base_url=base_url, parts=parts))
            queue._save()
            return queue
        if [part.sha256 for part in queue._state.parts] != [file.sha256 for file in files]:
            queue._remove_others(files)
            raise IncompatibleError(
                f"{folder} holds a batch of other questions, which was not finished.",
                hint="Run the command that began it, or delete the folder: what it has cost is lost then.",
            )
        queue._require_endpoint(base_url)
        return queue

    @classmethod
    def open(cls, folder: Path) -> BatchQueue | None:
        """Find the batch of a folder.

        Returns:
            The batch; None where the folder has none.

        Raises:
            FormatError: Its state or its questions are damaged.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return None
        try:
            state = _State.model_validate(read_json(path))
        except ValidationError as error:
            raise FormatError(
                f"{path} does not hold the state of a batch.",
                hint="Look at the endpoint's own page of batches, then delete the folder.",
            ) from error
        for part in state.parts:
            questions = folder / part.name
            # a name that leads elsewhere is none that was written here
            if (
                Path(part.name).name != part.name
                or not questions.is_file()
                or file_sha256(questions) != part.sha256
            ):
                raise FormatError(
                    f"{questions} is damaged or missing.", hint=f"Delete {folder} and ask again."
                )
        return cls(folder, state)

    @property
    def counts(self) -> FileCounts:
        """How many questions are how far, as the endpoint told last."""
        total = sum(part.requests for part in self._state.parts)
        completed = sum(part.completed for part in self._state.parts)
        failed = sum(part.failed for part in self._state.parts)
        ended = [part for part in self._state.parts if part.status in _ENDED]
        given_up = sum(max(0, part.requests - part.completed - part.failed) for part in ended)
        going_on = max(0, total - completed - failed - given_up)
        return FileCounts(given_up, completed, failed, going_on, total)

    def names(self) -> Iterator[str]:
        """Names of its questions.

        Raises:
            StorageError: A file cannot be read.
        """
        for part in self._state.parts:
            yield from custom_ids(self.folder / part.name)

    @property
    def finished(self) -> bool:
        """Whether every batch has ended and its results are here."""
        return all(part.ended for part in self._state.parts)

    @property
    def problems(self) -> list[str]:
        """What went wrong, for people, with what to do."""
        return [f"{part.problem} {_ASK_THE_REST}" for part in self._state.parts if part.problem]

    async def run(
        self,
        client: openai.AsyncOpenAI,
        *,
        show: Callable[[str], None],
        clean: Callable[[str], str],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Submit what is not submitted, wait until every batch has ended, and fetch the results.

        Args:
            client: Client of the endpoint.
            show: Is given each line of progress.
            clean: Takes the key out of a text of the endpoint.
            sleep: Waits so many seconds.

        Raises:
            EndpointError: Refused, not reachable, or not known there any more. The state is kept.
            IncompatibleError: The client is one of another endpoint.
            StorageError: The folder cannot be written.
        """
        self._require_endpoint(str(client.base_url))
        exchange = BatchExchange(client, clean, sleep)
        for part in self._state.parts:
            await self._submit(part, exchange)
        wait, shown = _FIRST_LOOK, ""
        while True:
            for part in self._state.parts:
                if not part.ended:
                    await self._look(part, exchange)
            statuses = ", ".join(dict.fromkeys(part.status for part in self._state.parts))
            line = f"File batch status: {statuses}\nFile counts: {self.counts}"
            if line != shown:
                show(line)
                shown = line
            if self.finished:
                return
            await sleep(wait)
            wait = longer(wait)

    def results(self, clean: Callable[[str], str]) -> Iterator[BatchResult]:
        """Read what came back: one result for each question, in any order.

        Args:
            clean: Takes the key out of a text of the endpoint.

        Raises:
            StorageError: A file cannot be read.
        """
        self.faults = ResultFaults()
        for part in self._state.parts:
            paths = [self.folder / name for name in part.results or ()]
            asked = custom_ids(self.folder / part.name)
            yield from read_results(asked, paths, self.faults, clean, part.problem or NOT_ANSWERED)

    def remove(self) -> None:
        """Delete questions, state and results, when all results are stored elsewhere."""
        # the state first: half a batch without its state is rubbish, a state without its files an error
        (self.folder / STATE_FILE).unlink(missing_ok=True)
        for part in self._state.parts:
            for name in (part.name, *(part.results or ())):
                (self.folder / name).unlink(missing_ok=True)

    async def _submit(self, part: _Part, exchange: BatchExchange) -> None:
        if part.batch_id is not None:
            return
        try:
            if part.file_id is None:
                part.file_id = await exchange.upload(self.folder / part.name)
                self._save()
            perhaps_submitted = part.submitting
            part.submitting = True
            self._save()
            part.batch_id = await exchange.submit(part.file_id, perhaps_submitted=perhaps_submitted)
            part.submitting = False
            self._save()
        except MissingError as error:
            raise EndpointError(
                f"{error}: {self._state.base_url} has no Batch API.", hint="Ask without --batch."
            ) from None

    async def _look(self, part: _Part, exchange: BatchExchange) -> None:
        batch_id = part.batch_id or ""
        try:
            batch = await exchange.look(batch_id)
        except MissingError:
            raise EndpointError(
                f"{self._state.base_url} does not know batch {batch_id}.",
                hint=f"Check that the key is of the project that it was submitted from, or delete {self.folder} to ask "
                "everything again.",
            ) from None
        part.status = plain_line(str(batch.status))
        if batch.request_counts is not None:
            part.completed = _count(batch.request_counts.completed, part.requests)
            part.failed = _count(batch.request_counts.failed, part.requests - part.completed)
        if part.status in _ENDED:
            await self._fetch(part, batch, exchange)
            self._save()

    async def _fetch(self, part: _Part, batch: Batch, exchange: BatchExchange) -> None:
        part.problem = _problem(part, batch, exchange.clean)
        results = []
        stem = part.name.removesuffix(".jsonl").replace("requests", "results", 1)
        for kind, file_id in (("answers", batch.output_file_id), ("errors", batch.error_file_id)):
            if not file_id or not isinstance(file_id, str):
                continue
            name = f"{stem}-{kind}.jsonl"
            try:
                await exchange.download(file_id, self.folder / name, part.requests)
            except MissingError:
                part.problem = f"The endpoint does not have the results of batch {part.batch_id} any more."
                continue
            results.append(name)
        part.results = results

    def _require_endpoint(self, base_url: str) -> None:
        if base_url.rstrip("/") != self._state.base_url.rstrip("/"):
            raise IncompatibleError(
                f"The batch in {self.folder} was begun at {self._state.base_url}, not at {base_url}.",
                hint="Use the same --base-url, or delete the folder to ask everything again.",
            )

    def _remove_others(self, files: Iterable[BatchFile]) -> None:
        kept = {part.name for part in self._state.parts}
        for file in files:
            if file.name not in kept:
                (self.folder / file.name).unlink(missing_ok=True)

    def _save(self) -> None:
        write_json(self.folder / STATE_FILE, self._state.model_dump())


def read_reply(
    result: BatchResult,
    answer: type[Answer],
    read: Callable[[Mapping[str, Any], type[Answer]], ChatReply[Answer]],
) -> ChatReply[Answer]:
    """Make a reply of a result.

    Args:
        result: What a batch says about a question.
        answer: What the answer must look like.
        read: Reads a chat completion.

    Returns:
        The reply; with status ``http_error`` where the batch has no completion.
    """
    if result.completion is None:
        return ChatReply("http_error", detail=result.detail)
    return read(result.completion, answer)


def _count(value: object, most: int) -> int:
    return min(max(0, value), most) if isinstance(value, int) else 0


def _problem(part: _Part, batch: Batch, clean: Callable[[str], str]) -> str:
    """Why a batch has not answered everything; empty where it has run to its end."""
    if part.status == "completed":
        return ""
    told = [error.message for error in (batch.errors.data if batch.errors else None) or ()]
    said = clean(plain_line("; ".join(text for text in told[:3] if isinstance(text, str))))[:300].rstrip(".")
    why = {
        "failed": "was refused",
        "expired": f"was not done within 24 hours: {part.completed:,} of {part.requests:,} questions are answered",
        "cancelled": f"was cancelled: {part.completed:,} of {part.requests:,} questions are answered",
    }[part.status]
    return f"Batch {part.batch_id} {why}{f': {said}' if said else ''}."
