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
from onesense.bias.scoring.requests import Scorer
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
