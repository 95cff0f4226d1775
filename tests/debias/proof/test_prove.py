"""A proof from end to end on a tiny model: what it holds, what it refuses, resume to the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from letters import Letters, benchmarks, hashes_of
from onesense.bias.benchmark import Benchmark, Split
from onesense.bias.benchmarks.occupations import Occupations
from onesense.bias.benchmarks.stereoset import StereoSet
from onesense.bias.scoring.requests import Request
from onesense.bias.scoring.scorer import ModelScorer
from onesense.debias.controls.signed_pairs import stored
from onesense.debias.divergence import KlMeter
from onesense.debias.proof.benchmarks import proof_benchmarks
from onesense.debias.proof.prove import prove
from onesense.debias.proof.settings import ProofSettings
from onesense.debias.proof.variants import by_fingerprint, scaled_recipe
from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import make_recipe
from tiny_dictionaries import random_dictionary

pytestmark = pytest.mark.usefixtures("few_pairs")


def test_everything_at_the_recipe_s_kl(
    run: Any, tiny_llama: LanguageModel, tuned: Any, requests: list[Request], tmp_path: Path
) -> None:
    point = HookPoint(2, "hook_resid_post")
    other = random_dictionary(d_in=32, seed=9, hook_point=point)
    peer = make_recipe(
        tiny_llama,
        [EditGroup(other, [Edit(feature=n, operation=Operation.SCALE, value=0.0) for n in range(9)])],
    )
    known = {**tuned.dictionaries, "another basis": other}
    proof = run(tmp_path / "run", dictionaries=known, learned={"another basis": peer})
    recipe, *controls = proof.controls
    assert (recipe.name, recipe.kind, recipe.strength, recipe.reached) == ("recipe", "recipe", 1.0, True)
    groups = tuned.recipe.groups(tiny_llama, by_fingerprint(tuned.dictionaries.values()))
    assert recipe.kl == pytest.approx(KlMeter(tiny_llama, requests).measure(groups))
    assert {one.kind for one in controls} == {"sanity", "erasure", "learned", "random"}
    assert [one.kind for one in proof.controls].count("random") == 3
    for one in controls:
        assert one.target_kl == recipe.kl
        assert one.kl <= 1.05 * recipe.kl or one.kind == "sanity"
        if one.reached:
            assert one.kl == pytest.approx(recipe.kl, rel=0.05)
        keys = [(metric.benchmark, metric.metric) for metric in one.metrics]
        expected = [("letters", "spread"), ("letters", "gap")]
        assert keys == (
            expected if one.kind == "random" else [*expected, ("guard", "spread"), ("guard", "gap")]
        )
        for mine, metric in zip(recipe.metrics, one.metrics, strict=False):
            assert metric.behind is not None
            assert metric.behind.value == pytest.approx(mine.reduction.value - metric.reduction.value)
    assert any("gone was left out: There is no file" in note for note in proof.notes)
    assert any(one.name == "another basis" and one.edits == 9 for one in controls)


def test_values_are_those_of_the_scorer(
    run: Any, tiny_llama: LanguageModel, tuned: Any, tmp_path: Path
) -> None:
    proof = run(tmp_path / "run", kinds=["sanity"])
    groups = tuned.recipe.groups(tiny_llama, by_fingerprint(tuned.dictionaries.values()))
    scorer = ModelScorer(tiny_llama, [None, groups])
    benchmark = Letters("letters")
    before, after = (table["gap"] for table in benchmark.measure(benchmark.items(scorer), scorer))
    recipe, identity, _ = proof.controls
    found = recipe.metrics[0]
    assert found.value == pytest.approx(float(np.std(after)), abs=1e-5)
    assert found.reduction.value == pytest.approx(1 - float(np.std(after) / np.std(before)), abs=1e-5)
    assert recipe.metrics[1].reduction.value == pytest.approx(
        1 - abs(float(np.mean(after))) / abs(float(np.mean(before))), abs=1e-5
    )
    assert identity.kl == 0
    assert [metric.reduction.value for metric in identity.metrics] == pytest.approx([0.0] * 4, abs=1e-6)


def test_the_null_counts_draws_that_do_as_well(run: Any, tmp_path: Path) -> None:
    proof = run(tmp_path / "run", kinds=["random"], draws=5)
    recipe, *draws = proof.controls
    assert set(proof.null) == {"letters/spread", "letters/gap"}
    for at, key in enumerate(proof.null):
        as_good = sum(
            one.metrics[at].reduction.value >= recipe.metrics[at].reduction.value - 1e-9 for one in draws
        )
        assert proof.null[key][0] == (1 + as_good) / 6


def test_a_target_moves_the_recipe_too(
    run: Any, tuned: Any, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    own = run(tmp_path / "own", kinds=["sanity"]).controls[0]
    recipe = run(tmp_path / "half", kinds=["sanity"], target_kl=own.kl / 2).controls[0]
    assert recipe.reached
    assert recipe.kl == pytest.approx(own.kl / 2, rel=0.05)
    assert recipe.strength < 1
    with pytest.raises(IncompatibleError, match="made otherwise"):
        run(tmp_path / "half", kinds=["sanity"], target_kl=own.kl / 3)


@pytest.mark.parametrize(("broken", "after"), [(KlMeter, 12), (ModelScorer, 1), (ModelScorer, 2)])
def test_an_interrupted_proof_goes_on_and_ends_in_the_same_bytes(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: type, after: int
) -> None:
    name = "measure" if broken is KlMeter else "score"
    plain, calls = getattr(broken, name), []

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if stop and len(calls) > after:
            raise KeyboardInterrupt
        return plain(self, *arguments, **named)

    stop = False
    monkeypatch.setattr(broken, name, counted)
    whole = run(tmp_path / "whole")
    needed = len(calls)
    assert needed > after

    stop = True
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    stop = False
    calls.clear()
    assert repr(run(tmp_path / "cut")) == repr(whole)
    assert len(calls) < needed
    assert hashes_of(tmp_path / "cut") == hashes_of(tmp_path / "whole")


def test_another_seed_is_another_proof(run: Any, tmp_path: Path) -> None:
    one = run(tmp_path / "one", kinds=["random"], seed=1)
    other = run(tmp_path / "other", kinds=["random"], seed=2)
    assert one.controls[0].kl == other.controls[0].kl
    assert [draw.metrics for draw in one.controls[1:]] != [draw.metrics for draw in other.controls[1:]]
    with pytest.raises(IncompatibleError):
        run(tmp_path / "one", kinds=["random"], seed=2)


@pytest.mark.parametrize(
    "benchmark", [Occupations(Split.TUNE), Occupations(Split.FIND), StereoSet("dev", "gender")]
)
def test_what_was_tuned_or_searched_on_proves_nothing(run: Any, tmp_path: Path, benchmark: Benchmark) -> None:
    with pytest.raises(ConfigurationError, match="the proof rests on held-out data"):
        run(tmp_path / "run", benchmarks=[Letters("letters"), benchmark])
    assert not (tmp_path / "run").exists()


def test_the_default_benchmarks_are_held_out(run: Any) -> None:
    for quick in (True, False):
        found = proof_benchmarks(quick)
        assert {one.split for one in found} <= {Split.HELD_OUT, Split.GUARD}
        assert found[0].key == "occupations-held-out"
    assert len(proof_benchmarks(quick=True)) < len(proof_benchmarks(quick=False))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"benchmarks": []}, "no benchmark"),
        ({"kinds": ["magic"]}, "no kind of control 'magic'"),
        ({"draws": 0}, "at least one draw"),
        ({"bootstrap_draws": 0}, "at least one draw"),
        ({"seed": -1}, "seed"),
        ({"target_kl": 0.0}, "above 0"),
        ({"densities": {}}, "firing rates"),
    ],
)
def test_bad_settings_are_refused(run: Any, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    kinds = {} if "kinds" in changes else {"kinds": ["random"]}
    with pytest.raises(ConfigurationError, match=said):
        run(tmp_path / "run", **{**kinds, **changes})
    assert not (tmp_path / "run").exists()


def test_no_data_at_all_is_told(run: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="None of the benchmarks has its data"):
        run(tmp_path / "run", benchmarks=[Letters("gone", missing=True)])


def test_a_recipe_that_changes_nothing_is_refused(
    tiny_llama: LanguageModel, tuned: Any, requests: list[Request], tmp_path: Path
) -> None:
    nothing = scaled_recipe(tuned.recipe, 0.0)
    with pytest.raises(ConfigurationError, match="changes nothing"):
        prove(
            tiny_llama,
            nothing,
            tmp_path / "run",
            dictionaries=tuned.dictionaries,
            densities=tuned.densities,
            settings=ProofSettings(kinds=("sanity",), benchmarks=benchmarks(), calibration=requests),
        )


def test_a_dictionary_that_is_not_given_is_loaded(
    tiny_llama: LanguageModel, tuned: Any, requests: list[Request], tmp_path: Path
) -> None:
    given = stored(
        tuned.recipe.groups(tiny_llama, by_fingerprint(tuned.dictionaries.values()))[1], tmp_path / "sae"
    )
    recipe = make_recipe(tiny_llama, [given])
    proofs = [
        prove(
            tiny_llama,
            recipe,
            tmp_path / name,
            dictionaries=dictionaries,
            densities={given.point.name: tuned.densities[given.point.name]},
            settings=ProofSettings(
                draws=2,
                kinds=("random",),
                benchmarks=benchmarks(),
                calibration=requests,
                bootstrap_draws=100,
            ),
        )
        for name, dictionaries in (("loaded", {}), ("in-memory", {"mine": given.dictionary}))
    ]
    assert proofs[0] == proofs[1]
    assert len(proofs[0].controls) == 3


def test_controls_that_are_not_wanted_are_not_fitted(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_args: Any, **_options: Any) -> Any:
        raise AssertionError("INLP was fitted")

    monkeypatch.setattr("onesense.debias.proof.erasure_variants.inlp", never)
    wanted = ("identity", "LEACE, all points")
    found = run(tmp_path / "few", kinds=("sanity", "erasure"), only=wanted)
    assert [one.name for one in found.controls[1:]] == list(wanted)
