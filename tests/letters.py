"""Benchmarks of pairs of letters, small enough for a proof on a tiny model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from onesense.bias.benchmark import Benchmark, Item, ScoredBenchmark, Split
from onesense.bias.metric import Direction, Metric, Role, line_of, mean_of, ratio, spread
from onesense.bias.scoring.requests import Request, Score, Scorer
from onesense.errors import NotFoundError

METRICS = (
    Metric(
        "spread",
        "s",
        "nats",
        Direction.LOWER,
        Role.BIAS,
        "A number.",
        line_of("x", "gap"),
        spread,
        decimals=3,
    ),
    Metric("gap", "g", "nats", Direction.PARITY, Role.BIAS, "A number.", mean_of("gap"), ratio, 0.0),
    Metric(
        "aside",
        "a",
        "nats",
        Direction.PARITY,
        Role.BIAS,
        "A number.",
        mean_of("gap"),
        ratio,
        0.0,
        headline=False,
    ),
)


class Letters(ScoredBenchmark):
    """Pairs of short texts, the second a letter apart."""

    about = "Pairs of letters."
    criticism = "None: nobody knows it."

    def __init__(
        self, key: str, split: Split = Split.HELD_OUT, count: int = 24, missing: bool = False
    ) -> None:
        self.key, self.title, self.split, self.count = key, key, split, count
        self.metrics = METRICS
        self.missing = missing

    def items(self, scorer: Scorer) -> list[Item]:
        if self.missing:
            raise NotFoundError("There is no file.", hint="onesense data get it")
        return [
            Item(
                f"{n}",
                f"cluster {n % 9}",
                (Request(f"the {chr(97 + n)} a"), Request(f"the {chr(97 + n)} b")),
                {"x": float(n % 5)},
            )
            for n in range(self.count)
        ]

    def columns(self, item: Item, scores: Sequence[Score]) -> dict[str, float]:
        return {"gap": scores[0].logprob - scores[1].logprob}


def benchmarks() -> list[Benchmark]:
    return [Letters("letters"), Letters("gone", missing=True), Letters("guard", Split.GUARD, 12)]


def hashes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".json", ".safetensors")
    }
