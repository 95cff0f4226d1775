"""How quick the web page is with 101,376 features: the table, filters, search, and the page of a feature.

``python -m benchmarks.web`` extracts the demo's dictionary with a little text, lays it 22 times beside itself (lens,
contexts and dictionary repeated; tokens, explanations, senses and effects drawn at random), starts ``onesense serve``
on it, and asks for pages as a browser does, one after the other.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from benchmarks.debias import dictionaries, widened
from benchmarks.memory import in_child
from onesense.features.contexts import ContextSettings
from onesense.features.extract import ExtractSettings, extract
from onesense.features.word_sets import token_texts
from onesense.model.load import load_model
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.store.candidates import CandidateRow
from onesense.store.catalog import Catalog, ExplanationStatus
from onesense.store.explanations import ExplanationRow, ScoreRow, write_explanations, write_scores
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.store.senses import SenseRow, replace_senses

COPIES = 22
REQUESTS = 200
TABLE_LIMIT, FEATURE_LIMIT = 150.0, 100.0
_TOKENS_READ = 3_000
_CANDIDATES = 500
_STATUSES: tuple[ExplanationStatus, ...] = (
    "ok",
    "ok",
    "ok",
    "ok",
    "ok",
    "ok",
    "ok",
    "refused",
    "truncated",
    "unparseable",
)
_RUN = "wide"


class Words:
    """Draws tokens and words, few of them often and many of them rarely, as in text."""

    def __init__(self, vocabulary: Sequence[str], seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.tokens = list(vocabulary)
        self.words = [one.strip() for one in vocabulary if re.fullmatch(r" [a-z]{4,}", one)]
        rank = np.arange(len(self.words)) + 10.0
        self._likely = (1 / rank) / (1 / rank).sum()

    def some_tokens(self, number: int) -> list[str]:
        """Tokens, each as likely."""
        return [self.tokens[at] for at in self.random.integers(len(self.tokens), size=number)]

    def some_words(self, number: int) -> list[str]:
        """Words, the first of the vocabulary the most likely."""
        return [self.words[at] for at in self.random.choice(len(self.words), size=number, p=self._likely)]


def make_runs(folder: Path, copies: int) -> int:
    """The runs that the server shows; the number of features. Call it in a process of its own."""
    model, narrow = load_model("demo", dtype="float32", device="cpu"), dictionaries()[1]
    settings = ExtractSettings(contexts=ContextSettings(max_tokens=_TOKENS_READ), check=False)
    small = extract(model, narrow, folder / "small", settings).run
    wide = write_saelens(widened(narrow, copies * narrow.d_sae, firing=True), folder / "dictionary")
    origin = load_dictionary(path=wide).origin
    inputs = provenance(
        model={"fingerprint": model.fingerprint, "name": model.name},
        dictionary={"fingerprint": origin.fingerprint, "name": str(wide)},
        seeds=0,
    )
    runs = folder / "runs"
    run = RunFolder.create_or_resume(
        runs / _RUN,
        command="extract",
        configuration={**small.configuration, "dictionary": str(wide)},
        provenance=inputs,
    )
    repeat_results(small, run, copies)
    words = Words(token_texts(model.vocabulary()), seed=0)
    write_features(small, run, words, copies * narrow.d_sae)
    write_beside(runs, run, inputs, words, copies * narrow.d_sae)
    return copies * narrow.d_sae


def repeat_results(small: RunFolder, run: RunFolder, copies: int) -> None:
    """Lens and statistics as often as wanted; blocks of contexts are the same files under more names."""
    lens, statistics_ = small.read_result("lens"), small.read_result("stats")
    n = len(lens["mean"])
    for name, tensors in (("lens", lens), ("stats", statistics_)):
        repeated = {
            key: np.concatenate([tensor] * copies) if len(tensor) == n else tensor
            for key, tensor in tensors.items()
        }
        run.write_result(name, repeated)
    blocks = sorted(small.result_path("contexts/block-0000").parent.iterdir())
    for number, block in enumerate(itertools.chain.from_iterable([blocks] * copies)):
        target = run.result_path(f"contexts/block-{number:04d}")
        target.parent.mkdir(exist_ok=True)
        os.link(block, target)


def write_features(small: RunFolder, run: RunFolder, words: Words, n: int) -> None:
    """The catalogue: random tokens, an explanation and its score for every feature."""
    with Catalog(small.catalog_path, read_only=True) as catalog:
        known = catalog.page(limit=n)
    draw = words.random
    with Catalog(run.catalog_path) as catalog:
        catalog.replace_features(
            replace(
                known[feature % len(known)],
                feature=feature,
                density=float(10 ** draw.uniform(-5, -1)),
                max_activation=float(draw.gamma(4, 5)),
                top_tokens=words.some_tokens(10),
                bottom_tokens=words.some_tokens(10),
            )
            for feature in range(n)
        )
        statuses = [_STATUSES[at] for at in draw.integers(len(_STATUSES), size=n)]
        write_explanations(
            catalog,
            (
                ExplanationRow(
                    feature,
                    model="reader",
                    status=status,
                    text=" ".join(words.some_words(9)) if status == "ok" else "",
                )
                for feature, status in enumerate(statuses)
            ),
        )
        write_scores(
            catalog,
            (
                ScoreRow(feature, model="reader", judge="reader", value=float(draw.beta(6, 3)), items=40)
                for feature, status in enumerate(statuses)
                if status == "ok"
            ),
        )


def write_beside(runs: Path, run: RunFolder, inputs: dict[str, object], words: Words, n: int) -> None:
    """A run that counted senses, and a debias run with candidates."""
    draw, hook_point = words.random, str(run.configuration["hook_point"])
    counted = RunFolder.create_or_resume(
        runs / "senses", command="senses measure", configuration={"hook_point": hook_point}, provenance=inputs
    )
    with Catalog(counted.catalog_path) as catalog:
        replace_senses(
            catalog,
            (
                SenseRow("features", unit, number=int(number), tokens=[words.some_words(5)] * int(number))
                for unit, number in enumerate(draw.geometric(0.8, size=n))
            ),
        )
    fingerprint = run.provenance["inputs"]["dictionary"]["fingerprint"]
    debias = RunFolder.create_or_resume(
        runs / "debias",
        command="debias",
        configuration={},
        provenance=provenance(dictionary={hook_point: fingerprint}, seeds=0),
    )
    with Catalog(debias.catalog_path) as catalog:
        catalog.replace_candidates(
            CandidateRow(hook_point, int(feature), bias=float(draw.gamma(1, 0.03)))
            for feature in draw.choice(n, size=min(n, _CANDIDATES), replace=False)
        )


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """The port of a server on these runs."""
    command = [sys.executable, "-m", "onesense", "serve", str(folder / "runs"), "--port", "0"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path("src").absolute())}
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        for line in process.stderr or ():
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()  # type: ignore[union-attr]
                yield int(found[1])
                return
        raise RuntimeError(f"onesense serve ended with {process.wait()}")
    finally:
        process.terminate()
        process.wait()


class Browser:
    """Asks as a browser does, over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def get(self, address: str) -> tuple[int, float]:
        """Status, and milliseconds until the last byte."""
        start = time.perf_counter()
        self._connection.request("GET", address, headers={"accept": "text/html"})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, 1000 * (time.perf_counter() - start)


def questions(words: Words, n: int) -> dict[str, Callable[[], str]]:
    """What is asked for, by kind: each call gives another address."""
    draw = words.random
    sorts = ("feature", "explanation", "tokens", "density", "max_activation", "senses", "effect", "score")

    def table() -> str:
        return urlencode({"sort": draw.choice(sorts), "order": draw.choice(["asc", "desc"]),
                          "page": draw.integers(1, n // 50)})  # fmt: skip

    def filtered() -> str:
        return urlencode({"density_from": f"{10 ** draw.uniform(-2, 0):.3g}", "max_to": draw.integers(10, 60),
                          "senses_from": draw.integers(1, 4), "score_from": f"{draw.uniform(0.4, 0.8):.2f}",
                          "explained": "1", "sort": draw.choice(sorts)})  # fmt: skip

    def search() -> str:
        one, other = words.some_words(2)
        asked = draw.choice(
            [one, f"{one} {other}", f"{one} OR {other}", f"{one[:4]}*", f'"{one} {other}"', one[:3]]
        )
        return urlencode({"q": asked})

    shapes = {"table": table, "filter": filtered, "search": search}
    return {name: (lambda make=make: f"/runs/{_RUN}/features?{make()}") for name, make in shapes.items()}  # type: ignore[misc]


def measured(port: int, n: int, requests: int) -> tuple[dict[str, list[float]], float, list[float]]:
    """Milliseconds of each kind of request; of the first; and of features' pages, where there are such pages."""
    browser, words = Browser(port), Words(token_texts(load_model("demo").vocabulary()), seed=1)
    first = browser.get(f"/runs/{_RUN}/features")[1]
    shapes = questions(words, n)
    for make in shapes.values():
        browser.get(make())
    times: dict[str, list[float]] = {name: [] for name in shapes}
    for turn in range(requests):
        name = list(shapes)[turn % len(shapes)]
        status, milliseconds = browser.get(address := shapes[name]())
        if status != 200:
            raise RuntimeError(f"{address} gave {status}")
        times[name].append(milliseconds)
    pages = [f"/runs/{_RUN}/features/{feature}" for feature in words.random.integers(n, size=requests // 2)]
    if browser.get(pages[0])[0] != 200:
        return times, first, []
    return times, first, [browser.get(page)[1] for page in pages]


def tail(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return float(np.percentile(values, 95))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="twice the demo's features, 30 requests")
    options = parser.parse_args(arguments)
    copies, requests = (2, 30) if options.quick else (COPIES, REQUESTS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n = in_child(make_runs, folder, copies)
        with served(folder) as port:
            times, first, pages = measured(port, n, requests)
    every = [one for values in times.values() for one in values]
    print(f"{n:,} features, {len(every)} requests one after the other, {os.cpu_count()} cores,"
          f" load average {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    print(f"{'':10}  {'p50 ms':>8}  {'p95 ms':>8}  {'most ms':>8}")
    for name, values in {**times, "all three": every, **({"a feature": pages} if pages else {})}.items():
        print(f"{name:10}  {statistics.median(values):8.1f}  {tail(values):8.1f}  {max(values):8.1f}")
    print(f"\nThe first table, which reads the catalogue where the server has not yet: {first:.0f} ms")
    wanted = [("Table, filter, search", every, TABLE_LIMIT), ("A feature", pages, FEATURE_LIMIT)]
    for name, values, limit in wanted:
        if values:
            verdict = "yes" if tail(values) <= limit else "NO"
            print(f"{name}: wanted at most {limit:g} ms at p95: {verdict}")
    figures = {f"{name}_p95": tail(values) for name, values in {**times, "all": every}.items()}
    print(json.dumps({"benchmark": "web", "features": n, "first": first, **figures,
                      "feature_p95": tail(pages) if pages else None}))  # fmt: skip


if __name__ == "__main__":
    main()
