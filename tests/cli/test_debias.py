"""``onesense debias`` and ``onesense tune`` as a user meets them; README's commands run the demo to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Run
from onesense.steer.recipe import read_recipe

SMALL = ("--templates", 1, "--steps", 1, "--max-density", 1, "--quiet", "--no-check")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--budget", 0), "numbers above 0"),
        (("--budget", 0.01, "--choose", 0.02), "none of"),
        (("--suite", "all"), "no suite 'all'"),
        (("--controls", "some"), "no controls 'some'"),
        (("--search", "random"), "no search 'random'"),
        (("--search", "trials", "--trials", 0), "A search of 0 trials"),
        (("--max-density", 0), "a density above 0"),
        (("--sae-release", "demo", "--sae-id", "blocks.1.hook_resid_post"), "blocks.1.hook_resid_post"),
    ],
)
def test_what_cannot_be_is_told_before_the_model_is_loaded(
    onesense: Run, flags: tuple[object, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_args: object, **_options: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("onesense.model.load.load_model", never)
    outcome = onesense("debias", "demo", *flags)
    assert outcome.code in (2, 3), outcome.err
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_model_needs_its_dictionaries_named(onesense: Run, gpt2_folder: Path) -> None:
    outcome = onesense("debias", gpt2_folder)
    assert outcome.code == 2
    assert "Which dictionaries" in outcome.err
    assert "--sae-path" in outcome.err
    release = onesense("debias", gpt2_folder, "--sae-release", "gpt2-small-res-jb")
    assert release.code == 2
    assert "--sae-id" in release.err


def test_a_dictionary_that_fails_its_check_stops_the_run(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onesense.errors import SelfCheckError

    def fails(*_args: object, **_options: object) -> None:
        raise SelfCheckError("The dictionary does not fit.", hint="Wrong layer?")

    monkeypatch.setattr("onesense.sae.check.self_checks", fails)
    run = tmp_path / "run"
    outcome = onesense("debias", gpt2_folder, "--sae-path", sae_folder, "--run-folder", run)
    assert outcome.code == 5
    assert "does not fit" in outcome.err
    assert not run.exists()


def test_a_model_without_bias_is_told_so_and_stops(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onesense.bias.results import Estimate

    monkeypatch.setattr(
        "onesense.debias.debias_run.estimate", lambda *_args, **_options: Estimate(0.1, -0.2, 0.4, 0.15, 0.5)
    )
    run = tmp_path / "run"
    outcome = onesense("debias", gpt2_folder, "--sae-path", sae_folder, "--run-folder", run, *SMALL)
    assert outcome.code == 2, outcome.err
    assert "No gender bias can be detected" in outcome.err
    assert not list(run.glob("recipes/*"))


def test_features_are_set_by_hand_and_audited(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.json"
    outcome = onesense(
        "tune", gpt2_folder, "--sae-path", sae_folder, "--set", "3=0.2", "--set", "5=0", "--output", recipe,
        "--suite", "none",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "feature 3  scale 0.2" in outcome.out
    (part,) = read_recipe(recipe).parts
    assert [(edit.feature, edit.amount) for edit in part.edits] == [(3, 0.2), (5, 0.0)]
    again = tmp_path / "again.json"
    more = onesense(
        "tune", gpt2_folder, "--recipe", recipe, "--set", "3=1", "--output", again, "--suite", "none"
    )
    assert more.code == 0, more.err
    assert [edit.feature for edit in read_recipe(again).parts[0].edits] == [5]


def test_tune_wants_something_to_set(onesense: Run, gpt2_folder: Path, sae_folder: Path) -> None:
    nothing = onesense("tune", gpt2_folder, "--sae-path", sae_folder)
    assert nothing.code == 2
    assert "--set 460=0.3" in nothing.err
    unclear = onesense("tune", gpt2_folder, "--sae-path", sae_folder, "--set", "low")
    assert unclear.code == 2
    assert "FEATURE=FACTOR" in unclear.err
    missing = onesense("tune", gpt2_folder, "--sae-path", sae_folder, "--set", "9999=0")
    assert missing.code == 3
    assert "no feature 9999" in missing.err


def test_a_recipe_for_another_model_is_refused(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.json"
    made = onesense(
        "tune", gpt2_folder, "--sae-path", sae_folder, "--set", "3=0.2", "--output", recipe, "--suite", "none"
    )
    assert made.code == 0, made.err
    outcome = onesense("tune", "demo", "--recipe", recipe, "--set", "3=0.1", "--output", tmp_path / "b.json")
    assert outcome.code == 5
    assert "has other weights" in outcome.err
