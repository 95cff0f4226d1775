from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import Run, write_old_saelens

PROMPT = "What is your favorite animal?"


@pytest.fixture
def base(gpt2_folder: Path, sae_folder: Path) -> list[object]:
    return ["steer", gpt2_folder, "--sae-path", sae_folder, "--prompt", PROMPT, "--max-new-tokens", 6]


def test_three_with_and_three_without(onesense: Run, base: list[object]) -> None:
    outcome = onesense(*base, "--feature_id", 3, "--coeff", 30, "--temperature", 1)
    assert outcome.code == 0, outcome.err
    steered, unsteered = outcome.out.split("Generation without steering:")
    assert steered.startswith("Generation with steering:")
    assert steered.count(PROMPT) == 3
    assert unsteered.count(PROMPT) == 3
    assert "Dose at blocks.0.hook_resid_pre" in outcome.err
    assert onesense(*base, "--feature-id", 3, "--coeff", 30).out == outcome.out
    assert onesense(*base, "--feature-id", 3, "--coeff", 30, "--seed", 1).out != outcome.out


def test_json_and_recipe_round_trip(onesense: Run, base: list[object], tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.json", tmp_path / "out.json"
    direct = onesense(*base, "--edit", "3:clamp:4", "--edit", "5:ablate", "--save-recipe", recipe, "--json")
    assert direct.code == 0, direct.err
    value = json.loads(direct.out)
    assert len(value["steered"]) == len(value["unsteered"]) == 3
    again = onesense(
        "steer", "--recipe", recipe, "--prompt", PROMPT, "--max-new-tokens", 6, "--json", "--output-file", out
    )
    assert again.code == 0, again.err
    assert json.loads(again.out)["steered"] == value["steered"]
    assert json.loads(out.read_text()) == json.loads(again.out)


def test_a_sweep_is_one_call(onesense: Run, base: list[object]) -> None:
    outcome = onesense(*base, "--feature-id", 3, "--sweep", "0,10,40", "--samples", 1)
    assert outcome.code == 0, outcome.err
    assert [line for line in outcome.out.splitlines() if line.startswith("Coefficient")][2].startswith(
        "Coefficient 40"
    )
    assert outcome.out.count(PROMPT) == 4
    zero, rest = outcome.out.split("Coefficient 10")
    assert zero.splitlines()[1] == rest.split("Without steering:")[1].splitlines()[1]


def test_units(
    onesense: Run, base: list[object], text_file: Path, gpt2_folder: Path, sae_folder: Path, tmp_path: Path
) -> None:
    norm = onesense(*base, "--edit", "3:direction_add:0.5:norm", "--greedy")
    assert norm.code == 0, norm.err
    assert (
        "Dose at blocks.0.hook_resid_pre: 0.5" in norm.err
        or "Dose at blocks.0.hook_resid_pre: 0.4" in norm.err
    )
    unknown = onesense(*base, "--edit", "3:clamp:1:max")
    assert unknown.code == 2
    run = tmp_path / "run"
    extracted = onesense(
        "extract",
        gpt2_folder,
        "--sae-path",
        sae_folder,
        "--text",
        text_file,
        "--run-folder",
        run,
        "--no-check",
    )
    assert extracted.code == 0
    assert onesense(*base, "--edit", "3:clamp:1:max", "--run-folder", run).code == 0
    other = write_old_saelens(tmp_path / "other", hook_point="blocks.1.hook_resid_pre")
    mixed = ["steer", gpt2_folder, "--sae-path", other, "--prompt", PROMPT, "--edit", "3:clamp:1:max"]
    refused = onesense(*mixed, "--run-folder", run)
    assert refused.code == 5
    assert "holds a run of" in refused.err


def test_layer_and_dictionary_that_disagree(
    onesense: Run, base: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = onesense(*base, "--feature-id", 3, "--coeff", 30)
    followed = onesense(*base, "--feature-id", 3, "--coeff", 30, "--layer", 2)
    assert followed.code == 0
    assert "as the original project did" in followed.err
    assert "Dose at blocks.2.hook_resid_pre" in followed.err
    assert followed.out != own.out
    monkeypatch.setenv("LAYER", "2")
    overruled = onesense(*base, "--feature-id", 3, "--coeff", 30)
    assert overruled.out == own.out
    assert "The dictionary decides" in overruled.err


def test_the_originals_environment(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "MODEL_NAME": str(gpt2_folder),
        "FEATURE_TO_STEER": "3",
        "STEERING_COEFF": "30",
        "STEERING_TEMP": "1",
        "STEERING_PROMPT": PROMPT,
    }.items():
        monkeypatch.setenv(name, value)
    outcome = onesense("steer", "--sae-path", sae_folder, "--max-new-tokens", 4)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count(PROMPT) == 6


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ([], 2, "Nothing says what to steer"),
        (["--feature-id", "64", "--coeff", "1"], 3, "63"),
        (["--feature-id", "-1", "--coeff", "1"], 2, "feature"),
        (["--feature-id", "3", "--coeff", "nan"], 2, "coeff"),
        (["--feature-id", "3", "--coeff", "inf"], 2, "coeff"),
        (["--feature-id", "3", "--coeff", "1", "--temperature", "0"], 2, "--greedy"),
        (["--feature-id", "3", "--coeff", "1", "--temperature", "-1"], 2, "--greedy"),
        (["--feature-id", "3", "--coeff", "1", "--prompt", ""], 2, "prompt"),
        (["--feature-id", "3", "--coeff", "1", "--prompt", "x" * 500], 2, "128"),
        (["--feature-id", "3", "--coeff", "1", "--samples", "0"], 2, "sample"),
        (["--feature-id", "3", "--coeff", "1", "--top-p", "2"], 2, "top_p"),
        (["--feature-id", "3", "--sweep", "1,x"], 2, "list of numbers"),
        (["--edit", "3:dance"], 2, "Choose one of"),
        (["--edit", "x:ablate"], 2, "FEATURE:OPERATION"),
        (["--edit", "3:clamp:nan"], 2, "value"),
        (["--edit", "3:ablate", "--edit", "3:clamp:1"], 2, "stack"),
        (["--recipe", "no-such-recipe.json"], 3, "no-such-recipe"),
    ],
)
def test_bad_values(onesense: Run, base: list[object], changes: list[str], code: int, words: str) -> None:
    outcome = onesense(*base, *changes)
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_no_prompt(onesense: Run, gpt2_folder: Path, sae_folder: Path) -> None:
    outcome = onesense("steer", gpt2_folder, "--sae-path", sae_folder, "--feature-id", 1, "--coeff", 1)
    assert outcome.code == 2
    assert "--prompt" in outcome.err


def test_hostile_prompts_cannot_write_to_the_terminal(onesense: Run, base: list[object]) -> None:
    outcome = onesense(
        *base, "--feature-id", 3, "--coeff", 1, "--prompt", "a\x1b[2Jb\x07 <|endoftext|> [red]x[/red]"
    )
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out
    assert "\x07" not in outcome.out
    assert "[red]x[/red]" in outcome.out
