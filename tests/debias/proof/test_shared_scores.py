"""A proof takes from the audit of its recipe what was scored there, and comes out the same to the last byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from letters import Letters, hashes_of
from onesense.bias import audit as audit_module
from onesense.bias.audit import AuditSettings, audit
from onesense.bias.benchmark import Benchmark, Item, Split
from onesense.bias.scoring import scorer as scorer_module
from onesense.bias.scoring.requests import Scorer
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.debias.proof.variants import by_fingerprint
from onesense.model.language_model import LanguageModel

pytestmark = pytest.mark.usefixtures("few_pairs")


class Counted(Letters):
    """Letters that note how many variants they are asked for."""

    asked: list[int]

    def measure(self, items: Sequence[Item], scorer: Scorer) -> Any:
        self.asked.append(scorer.n_variants)
        return super().measure(items, scorer)


def _counted(asked: list[int]) -> list[Benchmark]:
    made = [Counted("letters"), Counted("guard", Split.GUARD, 12)]
    for one in made:
        one.asked = asked
    return [*made]


def test_what_an_audit_scored_is_not_scored_again_and_the_bytes_are_the_same(
    run: Any, tiny_llama: LanguageModel, tuned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unedited model and the recipe are measured by the audit; what is left are the controls."""
    known = by_fingerprint(tuned.dictionaries.values())
    monkeypatch.setattr(type(tuned.recipe), "groups", _with(type(tuned.recipe).groups, known))
    monkeypatch.setattr(audit_module, "suite", lambda _name: [Letters("letters"), Letters("other", count=3)])
    scored = audit(
        tiny_llama, tmp_path / "audit", recipe=tuned.recipe, settings=AuditSettings(draws=20)
    ).scored
    asked: list[int] = []
    again: list[int] = []
    plain = run(tmp_path / "plain", benchmarks=_counted(asked))
    shared = run(tmp_path / "shared", benchmarks=_counted(again), scored=scored)
    assert shared == plain
    assert hashes_of(tmp_path / "shared") == hashes_of(tmp_path / "plain")
    named, draws = asked[0], asked[-1]
    assert asked == [named, named, draws]
    # The guard is in no audit; of random features the unedited model alone was measured.
    assert again == [named - 2, named, draws - 1]


@pytest.mark.parametrize("equal", [True, False])
def test_the_identity_control_is_measured_only_where_a_bit_differs(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, equal: bool
) -> None:
    options: dict[str, Any] = {"kinds": ("sanity",)}
    asked: list[int] = []
    proof = run(tmp_path / "sample", benchmarks=_counted(asked), **options)
    assert asked == [3, 3]  # the unedited model, the recipe, the reconstruction
    assert [metric.reduction.value for metric in proof.controls[1].metrics] == [0.0] * 4
    again: list[int] = []
    if not equal:
        monkeypatch.setattr(ModelScorer, "logits_equal", lambda *_arguments: False)
    assert run(tmp_path / "whole", benchmarks=_counted(again), **options) == proof
    assert again == ([3, 3] if equal else [4, 4])
    assert hashes_of(tmp_path / "whole") == hashes_of(tmp_path / "sample")


def test_blocks_that_the_audit_ran_are_not_run_again(
    run: Any, tiny_llama: LanguageModel, tuned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = by_fingerprint(tuned.dictionaries.values())
    monkeypatch.setattr(type(tuned.recipe), "groups", _with(type(tuned.recipe).groups, known))
    monkeypatch.setattr(audit_module, "suite", lambda _name: [Letters("letters")])
    ran: list[int] = []
    plain = scorer_module.read_inputs
    monkeypatch.setattr(scorer_module, "read_inputs", lambda *given: ran.append(1) or plain(*given))
    found = {}
    for memory in (0, 1 << 20):
        settings = AuditSettings(draws=20, scoring=ScoringSettings(prefix_bytes=memory))
        scored = audit(tiny_llama, tmp_path / f"audit{memory}", recipe=tuned.recipe, settings=settings).scored
        ran.clear()
        options: dict[str, Any] = {"kinds": ("erasure",), "only": ("LEACE, all",), "scored": scored}
        proof = run(tmp_path / f"proof{memory}", benchmarks=[Letters("letters")], **options)
        found[memory] = proof, hashes_of(tmp_path / f"proof{memory}"), len(ran)
    assert found[0][:2] == found[1 << 20][:2]
    assert found[0][2] > 0 == found[1 << 20][2]


def test_a_recipe_at_another_strength_is_scored(
    run: Any, tiny_llama: LanguageModel, tuned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = by_fingerprint(tuned.dictionaries.values())
    monkeypatch.setattr(type(tuned.recipe), "groups", _with(type(tuned.recipe).groups, known))
    monkeypatch.setattr(audit_module, "suite", lambda _name: [Letters("letters")])
    settings = AuditSettings(draws=20)
    scored = audit(tiny_llama, tmp_path / "audit", recipe=tuned.recipe, settings=settings).scored
    asked: list[int] = []
    again: list[int] = []
    options: dict[str, Any] = {"target_kl": 1e-4, "kinds": ("erasure",)}
    plain = run(tmp_path / "plain", benchmarks=_counted(asked)[:1], **options)
    assert run(tmp_path / "shared", benchmarks=_counted(again)[:1], scored=scored, **options) == plain
    assert again == [asked[0] - 1]


def _with(groups: Any, known: Any) -> Any:
    """``Recipe.groups`` that finds dictionaries in memory."""
    return lambda recipe, model, dictionaries=None, **options: groups(
        recipe, model, {**known, **(dictionaries or {})}, **options
    )
