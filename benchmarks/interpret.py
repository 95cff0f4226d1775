"""What explaining costs beside the language model: time of the processor for a feature, and memory.

``python -m benchmarks.interpret`` reads a little text for 27,648 features (the demo's dictionary six times), then has
every one explained by a scripted language model that answers at once, sixteen questions at a time: evidence, prompt,
client, reading of the answer, stored reply, catalogue. Memory is looked at on the way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx2

from benchmarks.debias import dictionaries, widened
from benchmarks.memory import in_child, resident_megabytes
from onesense.explain.endpoint.cache import ReplyCache, question_key
from onesense.explain.endpoint.client import OpenAIEndpoint
from onesense.explain.endpoint.ledger import Ledger
from onesense.explain.endpoint.prices import price_of
from onesense.explain.endpoint.settings import EndpointSettings
from onesense.explain.evidence import EvidenceReader
from onesense.explain.interpret import Explainer, Questions, explain_features
from onesense.features.contexts import ContextSettings
from onesense.features.extract import ExtractSettings, extract
from onesense.model.load import load_model
from onesense.store.catalog import Catalog

WIDTH = 6 * 4_608
CONCURRENCY = 16
TIME_LIMIT, MEMORY_LIMIT = 5.0, 1.1
_MODEL = "instant"
_REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": _MODEL,
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": json.dumps({"explanation": "words of some kind"})},
        }
    ],
    "usage": {"prompt_tokens": 900, "completion_tokens": 12, "total_tokens": 912},
}


class Cost(NamedTuple):
    """What explaining took.

    Attributes:
        features: Explained.
        milliseconds: Of the processor, for a feature.
        replayed: The same where every reply is stored already.
        early: Resident memory after a tenth of the features, in 10^6 bytes.
        late: The same at the end.
    """

    features: int
    milliseconds: float
    replayed: float
    early: float
    late: float


class Watched:
    """Progress that looks at memory after a tenth of the features and at the end."""

    def __init__(self, total: int) -> None:
        self.total, self.early, self.late = total, 0.0, 0.0

    def __call__(self, done: int, total: int | None) -> None:
        """Told how many features are explained."""
        del total
        if done == self.total // 10:
            self.early = resident_megabytes()
        if done == self.total:
            self.late = resident_megabytes()


async def explained(
    settings: EndpointSettings, reader: EvidenceReader, catalog: Catalog, cache: ReplyCache, total: int
) -> tuple[float, Watched]:
    """Explain everything that is open; seconds of the processor, and memory."""
    content = json.dumps(_REPLY).encode()
    headers = {"Content-Type": "application/json"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=content, headers=headers))
    ledger = Ledger(price_of(_MODEL, settings.base_url, price_input=1, price_output=1), 1_000_000)
    watched = Watched(total)
    start = time.process_time()
    async with OpenAIEndpoint(
        settings, cache, before=ledger.before, after=ledger.after, transport=transport
    ) as endpoint:
        questions = Questions(
            reader,
            range(total),
            catalog,
            lambda request: question_key(request, settings).hex()[:32],
            _MODEL,
            lexical={},
        )
        explainer = Explainer(endpoint, _MODEL, CONCURRENCY)
        await explain_features(questions, explainer, catalog, watched, total=total)
    return time.process_time() - start, watched


def cost(width: int, tokens: int) -> Cost:
    """Extract, explain, forget the explanations and explain again; call it in a process of its own."""
    model = load_model("demo", dtype="float32", device="cpu")
    middle = dictionaries()[1]
    dictionary = middle if width == middle.d_sae else widened(middle, width, firing=True)
    with tempfile.TemporaryDirectory() as folder:
        wanted = ExtractSettings(contexts=ContextSettings(max_tokens=tokens), check=False)
        run = extract(model, dictionary, Path(folder) / "run", wanted).run
        del dictionary
        settings = EndpointSettings(
            base_url="http://127.0.0.1:1/v1",
            model=_MODEL,
            concurrency=CONCURRENCY,
            cache=Path(folder) / "replies.sqlite",
        )
        with (
            EvidenceReader(run, model) as reader,
            Catalog(run.catalog_path) as catalog,
            ReplyCache(settings.cache) as cache,
        ):
            seconds, watched = asyncio.run(explained(settings, reader, catalog, cache, width))
            with catalog.transaction() as connection:
                connection.execute("DELETE FROM explanations")
            again, _ = asyncio.run(explained(settings, reader, catalog, cache, width))
    return Cost(width, 1000 * seconds / width, 1000 * again / width, watched.early, watched.late)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interpret", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the demo's own 4,608 features, less text")
    options = parser.parse_args(arguments)
    width, tokens = (dictionaries()[1].d_sae, 2_000) if options.quick else (WIDTH, 5_000)
    found = in_child(cost, width, tokens)
    growth = found.late / found.early
    print(f"{found.features:,} features, {CONCURRENCY} questions at once, answered at once")
    print(f"  {found.milliseconds:.2f} ms of the processor a feature (wanted: at most {TIME_LIMIT:g})")
    print(f"  {found.replayed:.2f} ms where every reply is stored")
    print(
        f"  {found.early:.0f} MB resident after a tenth, {found.late:.0f} MB at the end: "
        f"{growth:.3f} times (wanted: at most {MEMORY_LIMIT})"
    )
    print(json.dumps({"benchmark": "interpret", **found._asdict(), "memory_growth": growth}))


if __name__ == "__main__":
    main()
