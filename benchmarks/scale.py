"""What the work costs per token, feature and item, how workers share it, and what much more of it would cost.

``python -m benchmarks.scale`` measures one worker of one thread, says from that alone what two and four workers on this
machine would take, measures them, and reckons up a model of 7 billion parameters with 32 dictionaries of a million
features over 10 billion tokens.
"""

from __future__ import annotations

import argparse
import heapq
import os
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import SHARD_WINDOWS, run
from benchmarks.ray_nodes import ray_nodes

_WINDOW = 127
_GIGA, _HOUR = 1e9, 3600.0


@dataclass(frozen=True)
class Cost:
    """Seconds of one worker.

    Attributes:
        start: Until a worker has model and dictionary.
        shard: A part of the text.
        after: What the command does by itself: planning, merging, writing.
    """

    start: float
    shard: float
    after: float


def simulated(cost: Cost, shards: int, workers: int, cores: int) -> float:
    """Seconds that workers take for shards, each taking the next one when it is done with its last.

    Args:
        cost: Measured with one worker.
        shards: How many.
        workers: How many.
        cores: Of the machine; more workers than these share them.
    """
    slower = max(1.0, workers / cores)
    free = [cost.start * slower] * workers
    heapq.heapify(free)
    for _ in range(shards):
        heapq.heappush(free, heapq.heappop(free) + cost.shard * slower)
    return max(free) + cost.after


def measured(workers: int, shards: int, work: Path) -> float:
    """Seconds of a command with so many workers, from the first part to the last file."""
    from onesense.engine.ray_executor import RayExecutor

    with ray_nodes(*[1] * workers), closing(RayExecutor("auto", threads=1)) as executor:
        began = time.perf_counter()
        run("extract", work / f"{workers}-{shards}", shards * SHARD_WINDOWS * _WINDOW, executor, None)
        return time.perf_counter() - began


def lens_seconds() -> tuple[float, int]:
    """Seconds of the logit lens of all features of a dictionary, and how many they are."""
    import torch

    from onesense.features.lens import lens_statistics
    from onesense.model.load import load_model
    from onesense.model.unembedding import unembedding
    from onesense.sae.load import load_dictionary

    model = load_model("demo")
    dictionary = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post")
    rows = dictionary.decoder_rows(torch.arange(dictionary.d_sae))
    out = unembedding(model, convention="folded")
    lens_statistics(rows[:64], out)  # compiled by now
    began = time.perf_counter()
    lens_statistics(rows, out)
    return time.perf_counter() - began, dictionary.d_sae


def reckoned(per_token_gflop: float, rate: float) -> list[str]:
    """The sum for the largest case that we were asked about.

    Args:
        per_token_gflop: Of the demo model and its dictionary.
        rate: Measured, GFLOP/s of one thread here.
    """
    tokens, layers, features, width, parameters = 10e9, 32, 1e6, 4096, 7e9
    forward, encode = 2 * parameters / _GIGA, layers * 2 * width * features / _GIGA
    total = tokens * (forward + encode)
    gpu = 400e3  # GFLOP/s of a current data-centre GPU in bfloat16, at 40 % of its peak
    return [
        f"demo: {per_token_gflop:.2f} GFLOP a token, {rate:.0f} GFLOP/s of one thread",
        f"large: {forward:.0f} GFLOP a token in the model, {encode:.0f} in {layers} dictionaries",
        f"large: {total / gpu / _HOUR:,.0f} GPU hours at {gpu / 1e3:.0f} TFLOP/s, "
        f"{total / rate / _HOUR / 24 / 365:,.0f} years of one thread here",
        f"large: {layers * features * width * 2 * 2 / _GIGA:,.0f} GB of encoders and decoders in bfloat16",
    ]


def main() -> int:
    """Measure, say, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    import torch

    torch.set_num_threads(1)
    shards = 8 if asked.quick else asked.shards
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as place:
        few, many = measured(1, 4, Path(place)), measured(1, shards, Path(place))
        per_shard = (many - few) / (shards - 4)
        cost = Cost(few - 4 * per_shard, per_shard, 0.0)
        tokens = SHARD_WINDOWS * _WINDOW
        print(f"one worker: {cost.start:.1f} s to begin and end, {per_shard:.2f} s for {tokens} tokens")
        results: list[tuple[int, float, float]] = []
        for workers in (2, 4):
            said = simulated(cost, shards, workers, cores)
            results.append((workers, said, measured(workers, shards, Path(place))))
        sizes = [path.stat().st_size for path in Path(place, f"1-{shards}").rglob("*.safetensors")]
        for workers, said, took in results:
            print(
                f"{workers} workers, {shards} parts: {said:.1f} s said, {took:.1f} s taken ({took / said:.2f})"
            )
    lens, features = lens_seconds()
    per_token = 2 * (135e6 + 576 * features) / _GIGA
    print(
        f"contexts: {per_shard / tokens * 1e3:.2f} ms a token; lens: {lens / features * 1e3:.2f} ms a feature"
    )
    print(f"results: {sum(sizes) / features / 1e3:.1f} kB a feature")
    print("\n".join(reckoned(per_token, per_token / (per_shard / tokens))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
