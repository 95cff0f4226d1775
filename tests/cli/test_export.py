"""`onesense export` and `onesense verify` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from command_line import Run
from onesense.errors import OnesenseError

SHORT = ("--steps", 2, "--rank", 2, "--quiet")


@pytest.fixture
def recipe(onesense: Run, gpt2_folder: Path, sae_folder: Path, tmp_path: Path) -> Path:
    """A recipe of one constant direction, made by `steer`."""
    path = tmp_path / "recipe.json"
    made = onesense(
        "steer", gpt2_folder, "--sae-path", sae_folder, "--feature-id", 3, "--coeff", 3, "--prompt", "Once",
        "--max-new-tokens", 2, "--samples", 1, "--save-recipe", path, "--dtype", "float32",
    )  # fmt: skip
    assert made.code == 0, made.err
    return path


def test_export_and_verify(onesense: Run, recipe: Path, text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = onesense(
        "export",
        recipe,
        "--to",
        out,
        "--text",
        text_file,
        *SHORT,
        "--benchmark",
        "occupations-tune",
        "--draws",
        50,
    )
    assert made.code == 0, made.err
    assert "Exported as merged" in made.out
    assert "the unedited model" in made.out
    assert AutoModelForCausalLM.from_pretrained(out)
    sound = onesense("verify", out, "--quiet")
    assert sound.code == 0, sound.err
    assert "KL to the recipe" in sound.out
    assert "Occupations, tune" in sound.out
    assert "failed" not in sound.out
    hashes = onesense("verify", out, "--hashes-only")
    assert hashes.code == 0
    assert "Nothing was measured again" in hashes.out
    (out / "config.json").write_text("{}")
    for flags in ((), ("--hashes-only",)):
        tampered = onesense("verify", out, *flags)
        assert tampered.code == 11
        assert "changed: config.json" in tampered.err
        assert "Traceback" not in tampered.err


def test_numbers_that_do_not_come_out_again_have_a_code(
    onesense: Run, recipe: Path, text_file: Path, tmp_path: Path
) -> None:
    from onesense.debias.export.manifest import read_manifest

    out = tmp_path / "out"
    fit = ("--windows", 3, "--rows", 1, "--learning-rate", 0.001)
    assert onesense("export", recipe, "--to", out, "--text", text_file, *SHORT, *fit).code == 0
    manifest = read_manifest(out)
    assert manifest.fitting is not None
    asked = manifest.fitting.settings
    assert (manifest.text.fit_windows, asked.rows, asked.learning_rate) == (3, 1, 0.001)
    better = manifest.divergence.model_copy(update={"kl": manifest.divergence.kl / 2})
    manifest.model_copy(update={"divergence": better}).write(out)
    outcome = onesense("verify", out, "--quiet")
    assert outcome.code == 12
    assert "did not come out again: KL to the recipe" in outcome.err
    assert "failed" in outcome.out
    assert "No audit was recorded" in outcome.err


def test_what_a_user_may_get_wrong(onesense: Run, recipe: Path, gpt2_folder: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    refused = onesense("export", recipe, "--to", full)
    assert refused.code == 2
    assert "notes.txt" in refused.err
    assert (full / "notes.txt").read_text() == "mine"
    out = tmp_path / "out"
    for flags, code, text in (
        (("--how", "onnx"), 2, "no export of kind"),
        (("--how", "projection"), 5, "only project_out is linear"),
        (("--how", "gguf"), 5, "direction.0"),
        (("--rank", 0), 2, "rank"),
        (("--windows", 0), 2, "fit_windows"),
        (("--audit", "slow"), 2, "no suite"),
    ):
        outcome = onesense("export", recipe, "--to", out, *flags)
        assert outcome.code == code, outcome.err
        assert text in outcome.err
        assert "Traceback" not in outcome.err
        assert not out.exists()
    changed = json.loads(recipe.read_text())
    changed["note"] = "another"
    recipe.write_text(json.dumps(changed))
    assert onesense("export", recipe, "--to", out).code == 4
    assert onesense("verify", gpt2_folder).code == 3


def test_defaults_are_those_of_the_library() -> None:
    from inspect import signature

    from onesense.cli.export import export_command
    from onesense.debias.export.distillation import DistillationSettings
    from onesense.debias.export.texts import TextSettings

    asked = {name: one.default for name, one in signature(export_command).parameters.items()}
    fit, text = DistillationSettings(), TextSettings()
    for name in ("rank", "steps", "learning_rate", "rows", "target_kl"):
        assert asked[name] == getattr(fit, name), name
    assert asked["windows"] == text.fit_windows


@pytest.mark.parametrize("how", ["gguf", "vllm", "neuronpedia"])
def test_vectors_for_other_software(
    onesense: Run, recipe: Path, text_file: Path, tmp_path: Path, how: str
) -> None:
    import onesense as package

    out = tmp_path / "out"
    if how == "gguf":
        refused = onesense("export", recipe, "--to", out, "--how", how, "--text", text_file, "--quiet")
        assert refused.code == 5
        assert "direction.0" in refused.err
        return
    flags = ("--model-id", "gpt2-small") if how == "neuronpedia" else ()
    made = onesense("export", recipe, "--to", out, "--how", how, "--text", text_file, "--quiet", *flags)
    assert made.code == 0, made.err
    assert f"Exported as {how}" in made.out
    assert onesense("verify", out, "--quiet").code == 0
    model = package.load(out)
    assert type(model).__name__ == "GPT2LMHeadModel"
    with pytest.raises(OnesenseError, match="unedited"):
        model.save_pretrained(tmp_path / "saved")
