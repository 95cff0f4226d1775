"""The audit as a whole: resume, comparison, silence that is told, verdicts that the numbers allow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onesense.bias import audit as audit_module
from onesense.bias.audit import Audit, AuditSettings, audit
from onesense.bias.benchmark import Benchmark, Item, ScoredBenchmark, Split
from onesense.bias.measuring import ITEMS_PER_SHARD
from onesense.bias.metric import Direction, Metric, Role, line_of, mean_of, ratio, share_of, slope
from onesense.bias.results import Verdict
from onesense.bias.scoring.requests import Request, Score, Scorer
from onesense.bias.scoring.scorer import ModelScorer
from onesense.bias.suites import SUITES, chosen, every_benchmark, suite
from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError, OnesenseError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import Recipe, make_recipe
from tiny_dictionaries import random_dictionary


def _metric(name: str, **changes: Any) -> Metric:
    settings: dict[str, Any] = {
        "name": name,
        "title": name,
        "unit": "nats",
        "direction": Direction.PARITY,
        "parity": 0.0,
        "role": Role.BIAS,
        "meaning": "A number.",
        "moments": mean_of("gap"),
        "finish": ratio,
    }
    return Metric(**{**settings, **changes})


class Pairs(ScoredBenchmark):
    """Pairs of short texts, the second a letter apart."""

    about = "Pairs of letters."
    criticism = "None: nobody knows it."
    example_column = "gap"

    def __init__(self, key: str, split: Split, texts: Sequence[str], metrics: Sequence[Metric]) -> None:
        self.key, self.title, self.split, self.texts = key, key, split, texts
        self.metrics = tuple(metrics)

    def items(self, scorer: Scorer) -> list[Item]:
        return [
            Item(
                f"{n}", f"cluster {n % 9}", (Request(f"{text} a"), Request(f"{text} b")), {"x": float(n % 5)}
            )
            for n, text in enumerate(self.texts)
        ]

    def columns(self, item: Item, scores: Sequence[Score]) -> dict[str, float]:
        return {"gap": scores[0].logprob - scores[1].logprob}


class Missing(Pairs):
    def items(self, scorer: Scorer) -> list[Item]:
        raise NotFoundError("There is no file.", hint="onesense data get missing")


TEXTS = [f"{first}{second}" for first in "abcdefghijklmnopq" for second in "stuvwxyzabcdefghij"]
METRICS = (
    _metric("gap"),
    _metric(
        "right",
        moments=share_of(lambda c: c["gap"] > 0),
        role=Role.ABILITY,
        direction=Direction.HIGHER,
        parity=None,
        chance=50.0,
        unit="%",
    ),
    _metric("slope", moments=line_of("x", "gap"), finish=slope, headline=False),
)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> list[Benchmark]:
    made: list[Benchmark] = [
        Pairs("pairs", Split.HELD_OUT, TEXTS, METRICS),
        Pairs("guard", Split.GUARD, TEXTS[:40], METRICS[:1]),
        Missing("missing", Split.GUARD, [], METRICS[:1]),
    ]
    monkeypatch.setattr(audit_module, "suite", lambda name: made)
    return made


@pytest.fixture
def recipes(tiny_llama: LanguageModel, tmp_path: Path) -> dict[str, Recipe]:
    write_saelens(random_dictionary(d_in=32, hook_point=HookPoint(1, "hook_resid_post")), tmp_path / "sae")
    dictionary = load_dictionary(path=tmp_path / "sae")

    def recipe(*edits: Edit) -> Recipe:
        return make_recipe(tiny_llama, [EditGroup(dictionary, list(edits))])

    return {
        "strong": recipe(Edit.plain(3, 4.0)),
        "weak": recipe(Edit.plain(3, 2.0)),
        "nothing": recipe(Edit(feature=2, operation=Operation.SCALE, value=1.0)),
    }


QUICK = AuditSettings(draws=200)


def _digest(found: Audit) -> str:
    columns = [column for one in found.measured for table in one.tables for column in table.values()]
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


def test_one_model_is_measured_and_what_has_no_data_is_named(
    benchmarks: list[Benchmark], tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    result = audit(tiny_llama, tmp_path / "run", settings=QUICK).result
    assert [one.key for one in result.benchmarks] == ["pairs", "guard"]
    assert list(result.skipped) == ["missing"]
    assert "onesense data get" in result.skipped["missing"]
    gap = result.benchmarks[0].metrics[0]
    assert gap.items == len(TEXTS)
    assert gap.clusters == 9
    assert gap.before.low < gap.before.value < gap.before.high
    assert gap.after is None
    assert gap.change is None
    assert gap.verdict is (
        Verdict.BIAS if not gap.before.low <= 0 <= gap.before.high else Verdict.NO_DETECTABLE_BIAS
    )
    assert "BOS" in result.bos
    assert len(result.benchmarks[0].examples) == 5


def test_a_recipe_is_compared_pair_by_pair(
    benchmarks: list[Benchmark], tiny_llama: LanguageModel, recipes: dict[str, Recipe], tmp_path: Path
) -> None:
    found = audit(tiny_llama, tmp_path / "run", recipe=recipes["strong"], settings=QUICK)
    gap = found.result.benchmarks[0].metrics[0]
    assert gap.change is not None
    assert gap.after is not None
    assert gap.change.difference == pytest.approx(gap.after.value - gap.before.value)
    before, after = (table["gap"] for table in found.measured[0].tables)
    assert gap.change.difference == pytest.approx(float(np.mean(after - before)))
    assert gap.change.p_holm == gap.change.p  # the only one of its family
    assert found.result.benchmarks[1].metrics[0].change.p_holm is None  # type: ignore[union-attr]
    assert recipes["strong"].content_hash[:12] in str(found.result.after)
    alone = audit(tiny_llama, tmp_path / "alone", settings=QUICK)
    np.testing.assert_allclose(before, alone.measured[0].tables[0]["gap"], atol=1e-5)


def test_a_recipe_against_itself_changes_nothing(
    benchmarks: list[Benchmark], tiny_llama: LanguageModel, recipes: dict[str, Recipe], tmp_path: Path
) -> None:
    strong = recipes["strong"]
    result = audit(tiny_llama, tmp_path / "run", recipe=strong, against=strong, settings=QUICK).result
    assert {one.verdict for benchmark in result.benchmarks for one in benchmark.metrics} == {
        Verdict.IDENTICAL
    }
    other = audit(
        tiny_llama, tmp_path / "other", recipe=recipes["weak"], against=strong, settings=QUICK
    ).result
    assert other.before.startswith(strong.content_hash[:12])
    assert other.benchmarks[0].metrics[0].verdict is not Verdict.IDENTICAL


def test_a_recipe_that_does_nothing_is_told(
    benchmarks: list[Benchmark], tiny_llama: LanguageModel, recipes: dict[str, Recipe], tmp_path: Path
) -> None:
    for _ in range(2):  # the second time from what the run folder holds
        result = audit(tiny_llama, tmp_path / "run", recipe=recipes["nothing"], settings=QUICK).result
        assert any("does nothing here" in note for note in result.notes)
        assert result.benchmarks[0].metrics[0].verdict is Verdict.IDENTICAL


@pytest.mark.parametrize("stop_after", [0, 1])
def test_an_interrupted_audit_goes_on_and_ends_in_the_same_bytes(
    benchmarks: list[Benchmark],
    tiny_llama: LanguageModel,
    recipes: dict[str, Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
) -> None:
    assert len(TEXTS) > ITEMS_PER_SHARD
    whole = audit(tiny_llama, tmp_path / "whole", recipe=recipes["strong"], settings=QUICK)
    plain, calls = ModelScorer.score, []

    def interrupted(self: ModelScorer, *arguments: Any, **named: Any) -> Any:
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(1)
        return plain(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(ModelScorer, "score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            audit(tiny_llama, tmp_path / "run", recipe=recipes["strong"], settings=QUICK)
    again: list[int] = []
    monkeypatch.setattr(
        ModelScorer, "score", lambda self, *a, **n: (again.append(1), plain(self, *a, **n))[1]
    )
    resumed = audit(tiny_llama, tmp_path / "run", recipe=recipes["strong"], settings=QUICK)
    assert len(again) == 3 - stop_after  # two shards of the pairs, one of the guard
    assert _digest(resumed) == _digest(whole)
    assert resumed.result == whole.result
    shards = sorted(path.name for path in (tmp_path / "whole" / "partials").glob("*.safetensors"))
    for name in shards:
        one, other = ((tmp_path / run / "partials" / name).read_bytes() for run in ("run", "whole"))
        assert one == other, name


def test_a_folder_of_another_audit_is_refused(
    benchmarks: list[Benchmark], tiny_llama: LanguageModel, recipes: dict[str, Recipe], tmp_path: Path
) -> None:
    audit(tiny_llama, tmp_path / "run", settings=QUICK)
    with pytest.raises(IncompatibleError, match="made otherwise"):
        audit(tiny_llama, tmp_path / "run", recipe=recipes["strong"], settings=QUICK)


def test_items_that_ask_for_something_else_are_another_run(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    for texts in (TEXTS[:30], [*TEXTS[:29], "other"]):
        made = Pairs("pairs", Split.HELD_OUT, texts, METRICS)
        monkeypatch.setattr(audit_module, "suite", lambda name, made=made: [made])
        if texts[-1] == "other":
            with pytest.raises(IncompatibleError, match='pairs: "30 items'):
                audit(tiny_llama, tmp_path / "run", settings=QUICK)
        else:
            audit(tiny_llama, tmp_path / "run", settings=QUICK)


def test_the_data_of_an_audit_is_what_it_read(
    benchmarks: list[Benchmark], tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    result = audit(tiny_llama, tmp_path / "run", settings=QUICK).result
    assert result.data == {}  # whatever other audits of this process have read


def test_a_recipe_for_another_model_is_refused_and_forced_only_with_a_mark(
    benchmarks: list[Benchmark],
    tiny_model: Callable[[str], LanguageModel],
    recipes: dict[str, Recipe],
    tmp_path: Path,
) -> None:
    other = tiny_model("gpt_neox")
    with pytest.raises(IncompatibleError, match="made for"):
        audit(other, tmp_path / "run", recipe=recipes["strong"], settings=QUICK)
    forced = audit(
        other, tmp_path / "forced", recipe=recipes["strong"], settings=AuditSettings(draws=200, force=True)
    )
    assert any("forced" in note for note in forced.result.notes)


def test_a_text_longer_than_the_context_is_counted(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    texts = [*TEXTS[:30], "x" * (tiny_llama.max_context + 1)]
    monkeypatch.setattr(audit_module, "suite", lambda name: [Pairs("long", Split.HELD_OUT, texts, METRICS)])
    result = audit(tiny_llama, tmp_path / "run", settings=QUICK).result.benchmarks[0]
    assert (result.items, result.too_long) == (31, 1)
    assert [metric.items for metric in result.metrics] == [30, 30, 30]


def test_zero_variance_and_an_empty_selection_are_told(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    none = _metric("none", where=lambda columns: columns["x"] > 100)
    flat = _metric("flat", moments=line_of("gap", "gap"), finish=slope)
    still = _metric("still", moments=line_of("too_long", "gap"), finish=slope)
    benchmark = Pairs("odd", Split.HELD_OUT, TEXTS[:30], (none, flat, still))
    monkeypatch.setattr(audit_module, "suite", lambda name: [benchmark])
    result = audit(tiny_llama, tmp_path / "run", settings=QUICK).result.benchmarks[0]
    assert [metric.name for metric in result.metrics] == ["flat", "still"]
    assert any("none was left out" in note for note in result.notes)
    assert result.metrics[1].verdict is Verdict.UNDEFINED


def test_nothing_to_measure_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    monkeypatch.setattr(audit_module, "suite", lambda name: [Missing("missing", Split.GUARD, [], METRICS)])
    with pytest.raises(NotFoundError, match="missing: There is no file"):
        audit(tiny_llama, tmp_path / "run", settings=QUICK)
    with pytest.raises(ConfigurationError, match="nothing to compare"):
        audit(tiny_llama, tmp_path / "run", against=object(), settings=QUICK)  # type: ignore[arg-type]


def test_an_error_names_its_benchmark(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    class Empty(Pairs):
        def items(self, scorer: Scorer) -> list[Item]:
            return [Item("0", "c", (Request(""),))]

    monkeypatch.setattr(audit_module, "suite", lambda name: [Empty("empty", Split.GUARD, [], METRICS)])
    with pytest.raises(OnesenseError, match="empty: The text '' has no token"):
        audit(tiny_llama, tmp_path / "run", settings=QUICK)


def test_suites_grow_and_every_benchmark_has_a_key_of_its_own() -> None:
    keys = [[one.key for one in suite(name)] for name in SUITES]
    assert set(keys[0]) < set(keys[1]) < set(keys[2])
    every = every_benchmark()
    assert len({one.key for one in every}) == len(every)
    assert {one.key for one in every} >= set(keys[2])
    assert [one.key for one in chosen(["kl", "kl"])] == ["kl"]
    with pytest.raises(NotFoundError, match="Did you mean kl"):
        chosen(["kll"])
    with pytest.raises(ConfigurationError, match="quick, standard, full"):
        suite("huge")


@pytest.mark.parametrize("benchmark", every_benchmark(), ids=lambda one: one.key)
def test_every_metric_says_what_it_is(benchmark: Benchmark) -> None:
    assert benchmark.about.strip()
    assert benchmark.criticism.strip()
    assert len({metric.name for metric in benchmark.metrics}) == len(benchmark.metrics)
    for metric in benchmark.metrics:
        assert metric.meaning.endswith((".", "!"))
        assert metric.title
        assert (metric.direction is Direction.PARITY) == (metric.parity is not None)
    assert any(metric.headline for metric in benchmark.metrics)
