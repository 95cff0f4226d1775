"""The chain from evidence to recipe, report and audit: on a tiny model, interrupted, and with bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onesense.bias.audit import AuditSettings
from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.occupations import Occupations
from onesense.debias import debias_run
from onesense.debias.carried_over import carried_over, tuned_changes
from onesense.debias.debias import Debiased, debias
from onesense.debias.debias_run import DebiasRun, recipe_file
from onesense.debias.divergence import KlMeter
from onesense.debias.find import FindSettings
from onesense.debias.learned_bases import BASES, learned_recipes
from onesense.debias.objective import Objective
from onesense.debias.proof import prove as prove_module
from onesense.debias.search import SearchSettings
from onesense.debias.settings import DebiasSettings
from onesense.debias.stored_evidence import read_found
from onesense.debias.tunable import Tunable
from onesense.debias.tune import TuneSettings
from onesense.engine.stages import Silent
from onesense.errors import ConfigurationError, IncompatibleError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Dictionary
from onesense.sae.load import load_dictionary
from onesense.sae.write import write_saelens
from onesense.steer.recipe import read_recipe
from onesense.store.run_folder import RunFolder
from small_recipes import dictionary_at

SETTINGS = DebiasSettings(
    budgets=(0.002, 0.01),
    choose=0.01,
    max_features=6,
    thresholds=True,
    find=FindSettings(
        templates=1, people_templates=1, passages=6, passage_tokens=24, sentences=4, max_density=1.0
    ),
    tune=TuneSettings(steps=4),
    tuning_passages=8,
    pairs=0,
    calibration_passages=3,
    audit=AuditSettings(benchmarks=("gender-facts-held-out",), draws=50),
    controls="none",
    prompts=("The nurse said",),
)


Dictionaries = list[Dictionary]


@pytest.fixture(scope="module")
def dictionaries(tmp_path_factory: pytest.TempPathFactory) -> Dictionaries:
    folder = tmp_path_factory.mktemp("dictionaries")
    made = [dictionary_at("blocks.1.hook_resid_post", seed=1), dictionary_at("blocks.0.hook_resid_post")]
    return [load_dictionary(path=write_saelens(one, folder / one.hook_point.name)) for one in made]


@pytest.fixture
def biased(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model has no slope over occupations; the chain is to run all the same."""
    monkeypatch.setattr(DebiasRun, "refuse_without_bias", lambda _self, _found: None)


@pytest.fixture(scope="module")
def debiased(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory
) -> Debiased:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DebiasRun, "refuse_without_bias", lambda _self, _found: None)
        return debias(tiny_llama, dictionaries, tmp_path_factory.mktemp("run") / "a", settings=SETTINGS)


def test_every_budget_has_a_recipe_that_keeps_to_it(debiased: Debiased) -> None:
    result = debiased.result
    assert [point.budget for point in result.front] == [0.002, 0.01]
    for point in result.front:
        assert point.kl <= point.budget * (1 + 1e-9)
        recipe = read_recipe(debiased.run.path / point.recipe)
        assert recipe.content_hash == point.content_hash
        assert 1 <= point.features <= 6
    assert debiased.recipe.content_hash == result.front[result.chosen].content_hash


def test_the_result_tells_what_was_edited(dictionaries: Dictionaries, debiased: Debiased) -> None:
    result = debiased.result
    edits = {(part.hook_point, edit.feature) for part in debiased.recipe.parts for edit in part.edits}
    assert {(one.evidence.hook_point, one.evidence.feature) for one in result.edited} == edits
    for one in result.edited:
        assert one.without is not None
        assert one.without.kl > 0
        assert one.contexts
        assert len(one.evidence.promoted) == 8
        assert one.evidence.prompts
    assert result.complete is not None
    assert result.complete.kl > 0
    assert result.audit is not None
    assert result.audit.benchmarks[0].key == "gender-facts-held-out"
    assert result.texts[0].prompt == "The nurse said"
    assert list(result.dictionaries) == ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]


@pytest.mark.usefixtures("biased")
def test_the_same_seed_gives_the_same_bytes_and_an_interruption_changes_nothing(
    dictionaries: Dictionaries,
    tiny_llama: LanguageModel,
    debiased: Debiased,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_args: Any, **_options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(debias_run, "within_budget", interrupted)
        with pytest.raises(KeyboardInterrupt):
            debias(tiny_llama, dictionaries, tmp_path / "b", settings=SETTINGS)
    with monkeypatch.context() as patch:
        # What was found and tuned is not done again.
        patch.setattr(debias_run, "find", interrupted)
        again = debias(tiny_llama, dictionaries, tmp_path / "b", settings=SETTINGS)
    for budget in SETTINGS.budgets:
        name = recipe_file(budget)
        assert (again.run.path / name).read_bytes() == (debiased.run.path / name).read_bytes()


def test_the_other_budgets_go_on_from_the_one_that_is_tuned_first(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned: dict[float, tuple[int, list[float]]] = {}

    def halved(tunable: Tunable, _objective: Objective, *, budget: float, settings: Any, **_: Any) -> None:
        tuned[budget] = settings.steps, tunable.change.tolist()
        tunable.restore({"change": tunable.change.detach() / 2, "threshold": tunable.threshold.detach()})

    monkeypatch.setattr(debias_run, "tune", halved)
    work = DebiasRun(
        tiny_llama, dictionaries, tmp_path / "run", replace(SETTINGS, thresholds=False), Silent()
    )
    found = work.find()
    work.recipe(0.002, found)
    first = read_recipe(work.run.path / recipe_file(0.01))
    assert list(tuned) == [0.01, 0.002]
    assert [steps for steps, _ in tuned.values()] == [4, 2]
    assert tuned[0.01][1] == pytest.approx(work._select(0.01, found).change.tolist())
    before, selection = work._select(0.01, found), work._select(0.002, found)
    features = [found.evidence.feature(column) for column in before.columns.tolist()]
    learned = tuned_changes(first, features, work.dictionaries)
    expected = carried_over(selection, before, learned, (0.002 / 0.01) ** 0.5).change
    assert expected.tolist() != pytest.approx(selection.change.tolist(), rel=1e-2)
    assert tuned[0.002][1] == pytest.approx(expected.tolist(), rel=1e-5)


@pytest.mark.usefixtures("biased")
def test_the_kl_of_the_front_is_that_of_the_recipes_and_is_not_measured_again(
    dictionaries: Dictionaries,
    tiny_llama: LanguageModel,
    debiased: Debiased,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The search for a recipe's strength ends with it; a call that finds the recipe made measures it anew."""
    folder = tmp_path / "run"
    work = DebiasRun(tiny_llama, dictionaries, folder, SETTINGS, Silent())
    recipes = [work.recipe(budget, work.find()) for budget in SETTINGS.budgets]
    real = KlMeter.measure
    calls: list[float] = []
    monkeypatch.setattr(KlMeter, "measure", lambda *args: calls.append(real(*args)) or calls[-1])
    front = work.front(recipes)
    assert not calls
    (folder / "front.json").unlink()
    again = DebiasRun(tiny_llama, dictionaries, folder, SETTINGS, Silent())
    assert again.front(recipes) == front == list(debiased.result.front)
    assert calls == [point.kl for point in front]


@pytest.mark.usefixtures("biased")
def test_a_front_begun_is_kept(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = debias_run.select
    calls = []

    def once(*args: Any, **options: Any) -> Any:
        calls.append(options)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(debias_run, "select", once)
        with pytest.raises(KeyboardInterrupt):
            debias(tiny_llama, dictionaries, tmp_path / "c", settings=SETTINGS)
    assert read_recipe(tmp_path / "c" / recipe_file(0.01)).parts
    assert not (tmp_path / "c" / recipe_file(0.002)).exists()


def test_a_model_without_bias_is_told_so(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, debiased: Debiased
) -> None:
    found = read_found(RunFolder.open(debiased.run.path), SETTINGS.find)
    assert found is not None
    work = DebiasRun(tiny_llama, dictionaries, debiased.run.path, SETTINGS, Silent())
    draw = np.random.default_rng(0)
    none = found.evidence.neutral.copy()
    none[:] = draw.standard_normal(len(none))
    with pytest.raises(ConfigurationError, match="No gender bias can be detected"):
        work.refuse_without_bias(replace(found, evidence=replace(found.evidence, neutral=none)))
    people = list(dict.fromkeys(one.person for one in found.neutral))
    share = {one.person: one.women_percent for one in found.neutral}
    biased = np.array([0.0 if np.isnan(share[person]) else share[person] / 50 for person in people])
    work.refuse_without_bias(replace(found, evidence=replace(found.evidence, neutral=biased + none / 10)))


def test_other_settings_do_not_share_a_folder(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, debiased: Debiased
) -> None:
    with pytest.raises(IncompatibleError, match="made otherwise"):
        DebiasRun(tiny_llama, dictionaries, debiased.run.path, replace(SETTINGS, seed=1), Silent())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": (0.0, 0.01)}, "numbers above 0"),
        ({"budgets": ()}, "numbers above 0"),
        ({"choose": 0.5}, "none of"),
        ({"controls": "some"}, "no controls 'some'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DebiasSettings(**options)


def test_dictionaries_are_needed_one_for_each_point(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="in memory only"):
        debias(tiny_llama, [dictionary_at("blocks.0.hook_resid_post")], tmp_path / "d", settings=SETTINGS)
    with pytest.raises(ConfigurationError, match="no dictionary"):
        debias(tiny_llama, [], tmp_path / "d", settings=SETTINGS)
    twice = [dictionaries[0], dictionaries[0]]
    with pytest.raises(ConfigurationError, match="Two dictionaries read"):
        debias(tiny_llama, twice, tmp_path / "e", settings=SETTINGS)


def test_a_screen_that_leaves_nothing_is_said(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    tight = replace(SETTINGS, find=replace(SETTINGS.find, max_density=1e-9))
    with pytest.raises(ConfigurationError, match=r"Every feature fires|No feature is left"):
        debias(tiny_llama, dictionaries, tmp_path / "f", settings=tight)


@pytest.mark.usefixtures("biased")
def test_controls_and_another_audit_are_added_to_a_run(
    dictionaries: Dictionaries,
    tiny_llama: LanguageModel,
    debiased: Debiased,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same recipes, now against everything: the same learning on other bases among it."""
    small = [Occupations(Split.HELD_OUT, templates=1)]
    monkeypatch.setattr("onesense.debias.debias.proof_benchmarks", lambda quick: small)
    plain = prove_module.erasure_pairs
    monkeypatch.setattr(prove_module, "erasure_pairs", lambda model: plain(model)[:40])
    settings = replace(SETTINGS, controls="all", control_draws=2, prompts=())
    again = debias(tiny_llama, dictionaries, debiased.run.path, settings=settings)
    assert again.recipe.content_hash == debiased.recipe.content_hash
    proof = again.result.proof
    assert proof is not None
    kinds = {one.kind for one in proof.controls}
    assert kinds == {"recipe", "sanity", "erasure", "learned", "random"}
    learned = [one for one in proof.controls if one.kind == "learned"]
    assert [one.name for one in learned] == [f"{name}, same learning" for name in BASES]
    assert all(1 <= one.edits <= SETTINGS.max_features for one in learned)


@pytest.mark.parametrize("wrong", [{"max_features": 0}, {"tune": TuneSettings(steps=-1)}])
def test_nothing_to_edit_or_to_tune_is_refused_before_any_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="cannot be made") as caught:
        replace(SETTINGS, **wrong)
    assert "--max-features" in (caught.value.hint or "")


def test_an_objective_is_shared_with_bases_that_begin_where_it_does_and_with_no_others(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    """Neurons act one block earlier: what is kept before the features' first block would hide their edits."""
    own = DebiasRun(tiny_llama, dictionaries, tmp_path / "own", SETTINGS, Silent()).objective
    bases = ("neurons", "residual basis")
    made = []
    for name, objective in (("alone", None), ("shared", own)):
        recipes, notes = learned_recipes(
            tiny_llama,
            dictionaries,
            tmp_path / name,
            SETTINGS,
            bases=bases,
            objective=objective,
            stages=Silent(),
        )
        assert notes == []
        made.append(
            {basis: [part.edits for part in recipe.parts if part.edits] for basis, recipe in recipes.items()}
        )
    assert made[0] == made[1]
    assert len(made[0]) == len(bases)


@pytest.mark.usefixtures("biased")
def test_amounts_are_searched_without_a_gradient_and_an_interruption_changes_nothing(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_args: Any, **_options: Any) -> Any:
        raise AssertionError("tuned by gradient")

    def interrupted(*_args: Any, **_options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(debias_run, "tune", never)
    settings = replace(
        SETTINGS,
        budgets=(0.01,),
        search="trials",
        trials=SearchSettings(trials=3, batches=1),
        own_effects=False,
        prompts=(),
    )
    with monkeypatch.context() as patch:
        patch.setattr(debias_run, "within_budget", interrupted)
        with pytest.raises(KeyboardInterrupt):
            debias(tiny_llama, dictionaries, tmp_path / "g", settings=settings)
    kept = (tmp_path / "g" / "partials" / "search-0.01.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Objective, "measure", never)  # no trial is made again
        again = debias(tiny_llama, dictionaries, tmp_path / "g", settings=settings)
    assert (tmp_path / "g" / "partials" / "search-0.01.json").read_bytes() == kept
    assert any("The search at KL 0.01 tried 3 amounts" in note for note in again.result.notes)
    assert again.result.front[0].kl <= 0.01 * (1 + 1e-9)


def test_trials_decide_nothing_where_the_gradient_is_used(
    dictionaries: Dictionaries, tiny_llama: LanguageModel, debiased: Debiased
) -> None:
    more = replace(SETTINGS, search="gradient", trials=SearchSettings(trials=7))
    assert DebiasRun(tiny_llama, dictionaries, debiased.run.path, more, Silent()).search == "gradient"
    with pytest.raises(IncompatibleError, match="made otherwise"):
        DebiasRun(tiny_llama, dictionaries, debiased.run.path, replace(more, search="both"), Silent())
