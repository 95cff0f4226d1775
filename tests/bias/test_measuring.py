"""Variants that another run measured: taken from there to the last bit, and only where they would be the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onesense.bias.benchmark import Item, ScoredBenchmark, Split
from onesense.bias.benchmarks.kl import KlDivergence
from onesense.bias.measuring import ITEMS_PER_SHARD, Earlier, Reading, Scored, measure
from onesense.bias.metric import Direction, Floats, Metric, Role, mean_of, ratio
from onesense.bias.scoring.prefix_memory import PrefixMemory
from onesense.bias.scoring.requests import Request, Score, Scorer
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.where import Where, Window
from onesense.store.run_folder import RunFolder
from small_recipes import dictionary_at

RECIPE = "a recipe"


class Pairs(ScoredBenchmark):
    """Pairs of short texts; it notes how many variants it is asked for."""

    key = title = "pairs"
    split = Split.HELD_OUT
    about = criticism = "Pairs of letters."
    metrics = (
        Metric("gap", "g", "nats", Direction.PARITY, Role.BIAS, "A number.", mean_of("gap"), ratio, 0.0),
    )

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[int] = []

    def items(self, scorer: Scorer) -> list[Item]:
        words = [f"the {chr(97 + n % 26)}{n // 26}" for n in range(self.count)]
        return [Item(word, word, (Request(f"{word} a"), Request(f"{word} b"))) for word in words]

    def columns(self, item: Item, scores: Sequence[Score]) -> dict[str, float]:
        return {"gap": scores[0].logprob - scores[1].logprob}

    def measure(self, items: Sequence[Item], scorer: Scorer) -> list[dict[str, Floats]]:
        self.asked.append(scorer.n_variants)
        return super().measure(items, scorer)


def _group(point: str, value: float) -> list[EditGroup]:
    edits = [Edit(feature=feature, operation=Operation.SCALE, value=value) for feature in (3, 7)]
    return [EditGroup(dictionary_at(point), edits)]


FIRST = _group("blocks.1.hook_resid_pre", 3.0)
OTHERS = [_group("blocks.1.hook_resid_pre", 0.0), _group("blocks.1.hook_resid_post", 2.0)]


def _measured(
    reading: Reading, scorer: ModelScorer, folder: Path, earlier: Earlier | None = None
) -> tuple[list[bytes], Any]:
    run = RunFolder.create_or_resume(folder, command="test", configuration={}, provenance={})
    with run.lock():
        found = measure([reading], scorer, run, lambda done, total: None, earlier=earlier)
    return [path.read_bytes() for path in sorted((folder / "partials").iterdir())], found


@pytest.fixture(scope="module")
def scored(tiny_llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """The unedited model and one recipe on two benchmarks, of which the second has two shards."""
    scorer = ModelScorer(tiny_llama, [None, FIRST])
    folder = tmp_path_factory.mktemp("scored") / "run"
    run = RunFolder.create_or_resume(folder, command="test", configuration={}, provenance={})
    benchmarks = [KlDivergence(passages=2, tokens=8), Pairs(ITEMS_PER_SHARD + 9)]
    readings = [Reading(one, one.items(scorer)) for one in benchmarks]
    with run.lock():
        measure(readings, scorer, run, lambda done, total: None)
    model = (tiny_llama.fingerprint, str(tiny_llama.dtype))
    return Scored(run, readings, [None, RECIPE], model, ScoringSettings(), PrefixMemory(0))


def _reading(benchmark: Pairs, scorer: ModelScorer) -> Reading:
    return Reading(benchmark, benchmark.items(scorer))


def test_what_was_measured_is_taken_and_the_bytes_are_the_same(
    tiny_llama: LanguageModel, scored: Scored, tmp_path: Path
) -> None:
    scorer = ModelScorer(tiny_llama, [None, FIRST, *OTHERS])
    whole, part = Pairs(ITEMS_PER_SHARD + 9), Pairs(ITEMS_PER_SHARD + 9)
    expected, (_, effects) = _measured(_reading(whole, scorer), scorer, tmp_path / "whole")
    earlier = Earlier(scored, {0: 0, 1: 1})
    found, (measured, again) = _measured(_reading(part, scorer), scorer, tmp_path / "part", earlier)
    assert (whole.asked, part.asked) == ([4, 4], [2, 2])
    assert found == expected
    assert again == effects
    assert all(effect.positions > 0 for effect in again[1:])
    gaps = np.stack([table["gap"] for table in measured[0].tables])
    assert len(np.unique(gaps[:, 0])) == 4


def test_variants_keep_their_places(tiny_llama: LanguageModel, scored: Scored, tmp_path: Path) -> None:
    """The unedited model and the recipe need not come first, nor in the order of the other run."""
    scorer = ModelScorer(tiny_llama, [FIRST, OTHERS[0], None])
    benchmark = Pairs(ITEMS_PER_SHARD + 9)
    expected, _ = _measured(_reading(Pairs(ITEMS_PER_SHARD + 9), scorer), scorer, tmp_path / "whole")
    earlier = Earlier(scored, {0: 1, 2: 0})
    found, _ = _measured(_reading(benchmark, scorer), scorer, tmp_path / "part", earlier)
    assert benchmark.asked == [1, 1]
    assert found == expected


@pytest.mark.parametrize("what", ["items", "model", "scoring", "nothing edited", "nothing known", "rows"])
def test_another_measurement_is_not_taken(
    tiny_llama: LanguageModel, scored: Scored, tmp_path: Path, what: str
) -> None:
    scorer = ModelScorer(tiny_llama, [None, FIRST, OTHERS[0]])
    benchmark = Pairs(ITEMS_PER_SHARD + 9)
    earlier = Earlier(scored, {0: 0, 1: 1})
    if what == "items":
        benchmark = Pairs(ITEMS_PER_SHARD + 8)
    elif what == "model":
        earlier = Earlier(replace(scored, model=(tiny_llama.fingerprint, "torch.bfloat16")), {0: 0, 1: 1})
    elif what == "scoring":
        scorer = ModelScorer(tiny_llama, [None, FIRST, OTHERS[0]], settings=ScoringSettings(batch_tokens=64))
    elif what == "nothing edited":
        earlier = Earlier(replace(scored, recipes=[None]), {0: 0})
    elif what == "nothing known":
        earlier = Earlier(scored, {})
    else:
        where = Edit(feature=3, operation=Operation.SCALE, value=2.0, where=Where(window=Window.GENERATION))
        by_row = [EditGroup(dictionary_at("blocks.1.hook_resid_pre"), [where])]
        scorer = ModelScorer(tiny_llama, [None, FIRST, by_row])
    _measured(_reading(benchmark, scorer), scorer, tmp_path / "run", earlier)
    assert benchmark.asked == [3, 3]


def test_a_divergence_needs_the_model_beside_it(
    tiny_llama: LanguageModel, scored: Scored, tmp_path: Path
) -> None:
    scorer = ModelScorer(tiny_llama, [None, FIRST, OTHERS[0]])
    earlier = Earlier(scored, {0: 0, 1: 1})
    expected, _ = _measured(scored.readings[0], scorer, tmp_path / "whole")
    found, (measured, _) = _measured(scored.readings[0], scorer, tmp_path / "part", earlier)
    assert found == expected
    assert measured[0].tables[2]["kl"].min() > 0


def test_a_shard_that_is_damaged_is_measured(
    tiny_llama: LanguageModel, scored: Scored, tmp_path: Path
) -> None:
    scorer = ModelScorer(tiny_llama, [None, FIRST, OTHERS[0]])
    benchmark = Pairs(ITEMS_PER_SHARD + 9)
    reading = _reading(benchmark, scorer)
    damaged = scored.run.path / "partials" / "shard-0002.safetensors"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    try:
        _measured(reading, scorer, tmp_path / "run", Earlier(scored, {0: 0, 1: 1}))
    finally:
        damaged.write_bytes(whole)
    assert benchmark.asked == [1, 3]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_variant_that_changes_nothing_is_not_run_and_the_bytes_are_the_same(
    tiny_llama: LanguageModel, scored: Scored, tmp_path: Path, earlier: bool
) -> None:
    same = _group("blocks.1.hook_resid_pre", 1.0)
    scorer = ModelScorer(tiny_llama, [None, FIRST, same, OTHERS[0]])
    benchmark = Pairs(ITEMS_PER_SHARD + 9)
    reading = _reading(benchmark, scorer)
    expected, (_, effects) = _measured(
        _reading(Pairs(ITEMS_PER_SHARD + 9), scorer), scorer, tmp_path / "whole"
    )
    run = RunFolder.create_or_resume(tmp_path / "part", command="test", configuration={}, provenance={})
    known = Earlier(scored, {0: 0, 1: 1}) if earlier else None
    with run.lock():
        _, again = measure([reading], scorer, run, lambda done, total: None, earlier=known, unchanged=[2])
    found = [path.read_bytes() for path in sorted((tmp_path / "part" / "partials").iterdir())]
    assert benchmark.asked == ([1, 1] if earlier else [3, 3])
    assert found == expected
    assert again == effects
