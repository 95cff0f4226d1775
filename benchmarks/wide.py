"""What a dictionary of up to a million features costs: time and memory of extract and of the page, and how they grow.

``python -m benchmarks.wide`` makes dictionaries of random unit directions in the middle of the demo, whose latents
fire so often that 64 are active at a token, extracts each (lens, contexts, catalogue) in a process of its own, serves
the run, and asks for the table and for searches. ``--figure FILE`` draws the growth.

To hold all of it to 8 GB of memory, page cache included, on Linux with cgroups (version 1; as root)::

    mkdir /sys/fs/cgroup/memory/wide
    echo 8000000000 > /sys/fs/cgroup/memory/wide/memory.limit_in_bytes
    echo $$ > /sys/fs/cgroup/memory/wide/cgroup.procs
    python -m benchmarks.wide
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from scipy.stats import norm

from benchmarks.memory import in_child, peak_megabytes
from benchmarks.web import Browser, served
from onesense.features.context_settings import ContextSettings
from onesense.features.extract import ExtractSettings, extract
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.load import load_model
from onesense.sae.dictionary import Architecture, Dictionary, Origin
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.text.corpus import read_documents
from onesense.text.windows import batch_windows, iter_windows

FEATURES = (10_000, 31_623, 100_000, 316_228, 1_000_000)
TOKENS = 50_000
L0 = 64
POINT = HookPoint(15, "hook_resid_post")
_CONTEXT_SIZE = 128
_AT_ONCE = 2**15
_SEARCHES = ("the", "garden", "she OR her", "wom*", "of course")
_REQUESTS = 40
Row = dict[str, float]


class Timed:
    """Seconds of each stage, by its title."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:  # noqa: ARG002
        """See ``onesense.engine.stages.Stages``."""
        start = time.perf_counter()
        yield lambda _done, _total: None
        self.seconds[title.split()[0]] = time.perf_counter() - start


def make_dictionary(folder: Path, d_sae: int) -> None:
    """Random unit directions in the middle of the demo, as a folder."""
    model = load_model("demo", dtype="float32", device="cpu")
    write_saelens(random_directions(model, POINT, d_sae), folder)


def random_directions(model: LanguageModel, point: HookPoint, d_sae: int) -> Dictionary:
    """Random unit directions, with thresholds at which ``L0`` of them are active at a token."""
    windows = list(
        zip(range(8), iter_windows(model, read_documents(None), context_size=_CONTEXT_SIZE), strict=False)
    )
    batch = batch_windows(model, [window for _, window in windows])
    read = capture(model, batch, [point])[point][batch.content].float().cpu()
    usual = read[read.norm(dim=1) < 5 * read.norm(dim=1).median()]
    generator = torch.Generator().manual_seed(1)
    decoder = torch.empty(d_sae, model.d_model)
    encoder = torch.empty(model.d_model, d_sae)
    threshold = torch.empty(d_sae)
    z = float(norm.isf(L0 / d_sae))
    for start in range(0, d_sae, _AT_ONCE):
        rows = torch.randn(min(_AT_ONCE, d_sae - start), model.d_model, generator=generator)
        rows /= rows.norm(dim=1, keepdim=True)
        features = slice(start, start + len(rows))
        decoder[features], encoder[:, features] = rows, rows.T
        products = usual @ rows.T
        threshold[features] = (products.mean(dim=0) + z * products.std(dim=0)).clamp_min(1e-3)
    return Dictionary(
        Architecture.JUMPRELU,
        point,
        W_enc=encoder,
        b_enc=torch.zeros(d_sae),
        W_dec=decoder,
        b_dec=torch.zeros(model.d_model),
        threshold=threshold,
        origin=Origin(context_size=_CONTEXT_SIZE),
    )


def extracted(dictionary: Path, run: Path, tokens: int) -> Row:
    """Seconds of each stage, and gigabytes at the highest point; without tokens, no text is read.

    Call it in a process of its own.
    """
    model = load_model("demo", dtype="float32", device="cpu")
    start = time.perf_counter()
    loaded = load_dictionary(path=dictionary)
    stages = Timed()
    stages.seconds["load"] = time.perf_counter() - start
    settings = ExtractSettings(
        dtype="float32",
        with_contexts=tokens > 0,
        contexts=ContextSettings(max_tokens=max(tokens, 1)),
        check=False,
    )
    with own_memory() as peak:
        found = extract(model, loaded, run, settings, stages=stages)
    row = {title.lower(): seconds for title, seconds in stages.seconds.items()}
    if tokens:
        contexts = found.contexts
        if contexts is None or contexts.tokens_seen != tokens:
            raise RuntimeError(f"not {tokens} tokens were read")
        row["l0"] = float(contexts.count.sum() / contexts.tokens_counted)
    return {
        **row,
        "own_gigabytes": peak[0] / 1e9,
        "resident_gigabytes": peak_megabytes() / 1e3,
    }


@contextmanager
def own_memory() -> Iterator[list[float]]:
    """The most memory of this process that is no file, in bytes, as the one number of a list. Linux only."""
    done, peak = threading.Event(), [_own_bytes(os.getpid())]

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], _own_bytes(os.getpid()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _own_bytes(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024.0 * sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


def served_run(folder: Path, n: int) -> Row:
    """Milliseconds of the page's first table, of tables, searches and features; gigabytes of the server."""
    with served(folder) as port:
        browser, at = Browser(port), "/runs/run"
        asked = {
            "table": [f"{at}/features?sort={sort}&order=desc&page={page}"
                      for page in (1, n // 100, n // 50) for sort in ("feature", "density", "max_activation")],
            "search": [f"{at}/features?q={word.replace(' ', '+')}" for word in _SEARCHES],
            "feature": [f"{at}/features/{feature}" for feature in range(0, n, n // 7)],
        }  # fmt: skip
        row = {"first_table": _milliseconds(browser, f"{at}/features")}
        for name, addresses in asked.items():
            _milliseconds(browser, addresses[0])
            times = [_milliseconds(browser, addresses[turn % len(addresses)]) for turn in range(_REQUESTS)]
            row[name] = statistics.median(times)
            row[f"{name}_p95"] = statistics.quantiles(times, n=20)[-1]
        row["page_gigabytes"] = max(_own_bytes(process) for process in _servers(port)) / 1e9
    return row


def _milliseconds(browser: Browser, address: str) -> float:
    status, milliseconds = browser.get(address)
    if status != 200:
        raise RuntimeError(f"{address} gave {status}")
    return milliseconds


def _servers(port: int) -> list[int]:
    import psutil

    return [
        one.pid
        for one in psutil.Process().children(recursive=True)
        if any(c.laddr.port == port for c in one.net_connections("tcp"))
    ]


def measured(folder: Path, n: int, tokens: int) -> Row:
    """All that is measured of a dictionary with so many features."""
    dictionary, run = folder / "dictionary", folder / "runs" / "run"
    in_child(make_dictionary, dictionary, n)
    row = {"features": float(n), **in_child(extracted, dictionary, run, tokens)}
    if tokens:
        row |= served_run(folder, n)
    size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
    return {**row, "run_gigabytes": size / 1e9}


def growth(rows: Sequence[Row], name: str) -> float:
    """Exponent between the smallest and the largest dictionary: 1 is linear."""
    first, last = rows[0], rows[-1]
    return math.log(last[name] / first[name]) / math.log(last["features"] / first["features"])


def draw(rows: Sequence[Row], path: Path) -> None:
    """Time and memory against features, both axes logarithmic, beside a line that is linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    n = [row["features"] for row in rows]
    for name in ("logit", "contexts", "catalogue", "load"):
        seconds.plot(n, [row[name] for row in rows], "o-", label="logit lens" if name == "logit" else name)
    seconds.plot(n, [rows[0]["contexts"] * one / n[0] for one in n], "k:", label="linear")
    memory.plot(n, [row["own_gigabytes"] for row in rows], "o-", label="extract, without mapped files")
    memory.plot(
        n, [row["resident_gigabytes"] for row in rows], "o-", label="extract, mapped dictionary included"
    )
    memory.plot(n, [row["page_gigabytes"] for row in rows], "o-", label="page")
    memory.axhline(8, color="k", linestyle="--", label="8 GB")
    for axes, title, unit in ((seconds, "Time", "seconds"), (memory, "Memory at the highest point", "GB")):
        axes.set(xscale="log", yscale="log", title=title, xlabel="features", ylabel=unit)
        axes.legend(frameon=False, fontsize=8, loc="upper left" if axes is seconds else "lower right")
    memory.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["¼", "½", "1", "2", "4", "8"])
    memory.minorticks_off()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wide", description=__doc__)
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES)
    parser.add_argument(
        "--tokens", type=int, default=TOKENS, help="0: read no text, serve no page: lens and catalogue alone"
    )
    parser.add_argument(
        "--folder", type=Path, help="where dictionaries and runs go for a while (25 GB at a million)"
    )
    parser.add_argument("--figure", type=Path, help="draw the growth into this file")
    parser.add_argument(
        "--rows", type=Path, nargs="+", help="JSON of earlier runs: draw them, measure nothing"
    )
    options = parser.parse_args(arguments)
    rows: list[Row] = [row for path in options.rows or [] for row in json.loads(path.read_text())["rows"]]
    rows.sort(key=lambda row: row["features"])
    for n in [] if rows else options.features:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            rows.append(measured(Path(name), n, options.tokens))
        print(json.dumps({key: round(value, 4) for key, value in rows[-1].items()}), flush=True)
    answer: dict[str, Any] = {"benchmark": "wide", "rows": rows}
    if len(rows) > 1:
        names = ("logit", "contexts", "catalogue", "own_gigabytes", "resident_gigabytes", "run_gigabytes")
        answer["growth"] = {name: growth(rows, name) for name in names if all(name in row for row in rows)}
        print("\nGrowth (1 is linear): " + ", ".join(f"{k} {v:.2f}" for k, v in answer["growth"].items()))
    if options.figure is not None:
        draw(rows, options.figure)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
