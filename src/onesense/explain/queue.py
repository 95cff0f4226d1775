"""Explain through a provider's batch queue: half the price, up to a day, and nothing is submitted twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from onesense.errors import IncompatibleError
from onesense.explain.asking import Asking
from onesense.explain.endpoint.batch import STATE_FILE, BatchQueue, read_reply
from onesense.explain.endpoint.batch_exchange import Sleep
from onesense.explain.endpoint.cache import question_key
from onesense.explain.endpoint.chat import ChatReply, ChatRequest
from onesense.explain.endpoint.completion import read_completion, reply_from
from onesense.explain.endpoint.dialect import Dialect, completion_body
from onesense.explain.endpoint.exchange import Exchange
from onesense.explain.endpoint.secrecy import key_kept_from_logs, scrub
from onesense.explain.explanation import Explanation
from onesense.explain.interpret import Questions
from onesense.explain.prompts import ExplanationAnswer
from onesense.explain.written import Written
from onesense.store.catalog import Catalog
from onesense.store.explanations import ExplanationRow, read_explanations, write_explanations
from onesense.store.run_folder import RunFolder

FOLDER = "batch"
"""Of the run: questions, state and results, until all is in the catalogue."""


def require_no_batch(run: RunFolder) -> None:
    """Refuse to ask at once while questions of the run wait in the queue: they would be paid twice.

    Raises:
        IncompatibleError: A batch was submitted, or is about to be.
    """
    folder = run.path / FOLDER
    if (folder / STATE_FILE).exists():
        raise IncompatibleError(
            f"{folder} holds a batch that was not finished.",
            hint="Add --batch to go on with it, or delete the folder: what it has cost is lost then.",
        )


def explain_through_queue(
    asking: Asking,
    questions: Questions,
    run: RunFolder,
    catalog: Catalog,
    show: Callable[[str], None],
    *,
    sleep: Sleep = asyncio.sleep,
) -> list[str]:
    """Submit every open question as a batch, wait, and keep what comes back.

    A killed call goes on with the same batch, for the folder knows what was submitted; questions that are not among
    it are submitted after it. What was paid for before is not submitted.

    Args:
        asking: Whom to ask.
        questions: What is to be asked.
        run: Where the batch is kept meanwhile.
        catalog: Where answers go.
        show: Is given each line of progress.
        sleep: Waits so many seconds.

    Returns:
        What went wrong, for people; what has no answer is open still.

    Raises:
        EndpointError: Refused, or not reachable; the same call goes on later.
        IncompatibleError: A batch of other questions, or of another endpoint, has not been finished.
        StorageError: The disk is full.
    """
    folder = run.path / FOLDER
    problems: list[str] = []
    asked: dict[str, bytes] = {}
    begun = BatchQueue.open(folder)
    if begun is not None:
        asked = _keys_of(begun, asking, questions, catalog)
        problems += _finish(begun, asking, asked, catalog, show, sleep)
    keys: dict[str, bytes] = {}
    with Written[ExplanationRow](catalog, write_explanations) as written:
        queue = _begin(folder, asking, _open_ones(asking, questions, asked, keys, written))
    if queue is not None:
        problems += _finish(queue, asking, keys, catalog, show, sleep)
    return problems


def _open_ones(
    asking: Asking,
    questions: Questions,
    asked: Mapping[str, bytes],
    keys: dict[str, bytes],
    written: Written[ExplanationRow],
) -> Iterator[tuple[str, ChatRequest[ExplanationAnswer]]]:
    """Questions to submit; their keys are noted, and those with a stored reply are answered by it."""
    for question, request in questions.requests():
        name = _name(question.evidence.feature, question.evidence.sense, question.made_from)
        if name in asked:
            continue
        key = question_key(request, asking.settings)
        stored = asking.cache.get(key)
        if stored is not None:
            reply = reply_from(stored, ExplanationAnswer, key=asking.settings.key)
            written.add([_row(name, replace(reply, paid=False), asking.settings.model)])
            continue
        keys[name] = key
        yield name, request


def _begin(
    folder: Path, asking: Asking, named: Iterator[tuple[str, ChatRequest[ExplanationAnswer]]]
) -> BatchQueue | None:
    first = next(named, None)
    if first is None:
        return None
    settings = asking.settings
    body = partial(completion_body, settings=settings, dialect=Dialect(structured=settings.structured))
    return BatchQueue.create(folder, chain([first], named), body, base_url=settings.base_url)


def _keys_of(queue: BatchQueue, asking: Asking, questions: Questions, catalog: Catalog) -> dict[str, bytes]:
    """Keys of the open questions of a batch that was begun.

    Raises:
        IncompatibleError: Some of its questions are not those of this call: their answers would be lost.
    """
    keys = {
        _name(question.evidence.feature, question.evidence.sense, question.made_from): question_key(
            request, asking.settings
        )
        for question, request in questions.requests()
    }
    answered = {
        _name(row.feature, row.sense, row.made_from) for row in read_explanations(catalog, method="llm")
    }
    names = list(queue.names())
    if not all(name in keys or name in answered for name in names):
        raise IncompatibleError(
            f"{queue.folder} holds a batch of other questions, which was not finished.",
            hint="Run the command that began it, or delete the folder: what it has cost is lost then.",
        )
    return {name: keys[name] for name in names if name in keys}


def _finish(
    queue: BatchQueue,
    asking: Asking,
    keys: Mapping[str, bytes],
    catalog: Catalog,
    show: Callable[[str], None],
    sleep: Sleep,
) -> list[str]:
    """Wait for a batch, keep its answers, and clear it away; what went wrong."""
    clean = partial(scrub, key=asking.settings.key)
    asyncio.run(_run(queue, asking, show, clean, sleep))
    without: Counter[str] = Counter()
    with Written[ExplanationRow](catalog, write_explanations) as written:
        for row in _rows(queue, asking, keys, clean):
            written.add([row])
            if row.status == "http_error":
                without[row.detail] += 1
    problems = queue.problems
    if without and not problems:
        reason = without.most_common(1)[0][0].rstrip(".")
        problems.append(
            f"{without.total():,} questions have no answer: {reason}. Run the same command to ask them."
        )
    if str(queue.faults):
        problems.append(f"Batch: {queue.faults}.")
    queue.remove()
    return problems


async def _run(
    queue: BatchQueue,
    asking: Asking,
    show: Callable[[str], None],
    clean: Callable[[str], str],
    sleep: Sleep,
) -> None:
    with key_kept_from_logs(asking.settings.key):
        exchange = Exchange(asking.settings)
        try:
            await queue.run(exchange.client, show=show, clean=clean, sleep=sleep)
        finally:
            await exchange.close()


def _rows(
    queue: BatchQueue, asking: Asking, keys: Mapping[str, bytes], clean: Callable[[str], str]
) -> Iterator[ExplanationRow]:
    for result in queue.results(clean):
        key = keys.get(result.custom_id)
        if key is None:  # killed after its answer was kept
            continue
        reply = read_reply(result, ExplanationAnswer, partial(_read, asking, key))
        asking.ledger.book(reply)
        yield _row(result.custom_id, reply, asking.settings.model)


def _read(
    asking: Asking, question: bytes, completion: Mapping[str, Any], answer: type[ExplanationAnswer]
) -> ChatReply[ExplanationAnswer]:
    """Read a completion as one that came at once is read, and keep it as paid."""
    key = asking.settings.key
    found = read_completion(completion)
    if found is None:
        return ChatReply("unparseable", detail="the reply is no chat completion")
    raw = found.without_key(key)
    asking.cache.put(question, raw, model=asking.settings.model)
    return reply_from(raw, answer, key=key)


def _row(name: str, reply: ChatReply[ExplanationAnswer], model: str) -> ExplanationRow:
    feature, sense, made_from = name.split("/")
    return Explanation(
        int(feature),
        "" if reply.value is None else reply.value.explanation,
        status=reply.status,
        sense=int(sense),
        model=model,
        detail=reply.detail,
        usage=reply.usage,
    ).row(made_from)


def _name(feature: int, sense: int, made_from: str) -> str:
    """What a question is called in a batch; answers that were asked for otherwise have another name."""
    return f"{feature}/{sense}/{made_from}"
