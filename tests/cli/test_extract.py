from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from command_line import Outcome, Run, write_old_saelens
from onesense.features.lens import LensStatistics
from onesense.store.lock import exclusive_lock
from onesense.store.run_folder import RunFolder


def flags(gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path) -> list[object]:
    return [
        gpt2_folder,
        "--sae-path",
        sae_folder,
        "--text",
        text_file,
        "--run-folder",
        tmp_path / "run",
        "--no-check",
    ]


def test_table_json_and_run_folder(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    outcome = onesense("extract", *flags(gpt2_folder, sae_folder, text_file, tmp_path), "--output_file", out)
    assert outcome.code == 0, outcome.err
    assert "[64 rows x 7 columns]" in outcome.out
    assert "top_activated_words" in outcome.out
    rows = json.loads(out.read_text())
    assert len(rows) == 64
    assert rows[0]["sparsity"] == -10
    assert f"Results saved to '{out}'" in outcome.err
    run = RunFolder.open(tmp_path / "run")
    assert {"lens", "stats", "contexts/block-0000"} <= set(run.results())
    again = onesense("extract", *flags(gpt2_folder, sae_folder, text_file, tmp_path))
    assert again.code == 0
    assert again.out == outcome.out


def test_the_originals_command_line_from_the_cache(
    onesense: Run, gpt2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original's flags and release names, with a GPT-2-shaped model and a folder of the release's layout."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--jbloom--GPT2-Small-SAEs-Reformatted"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("b" * 40)
    write_old_saelens(repository / "snapshots" / ("b" * 40) / "blocks.0.hook_resid_pre")
    out = tmp_path / "top_activations_per_feature.json"
    outcome = onesense(
        "extract", "--model_name", gpt2_folder, "--sae_release", "gpt2-small-res-jb",
        "--sae_id", "blocks.0.hook_resid_pre", "--layer", "8", "--output_file", out,
        "--no-check", "--no-contexts", "--run_folder", tmp_path / "run",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "Layer 8 was given" in outcome.err
    assert len(json.loads(out.read_text())) == 64


def test_settings_from_the_environment_and_the_file(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "onesense.toml").write_text(
        f'model_name = "{gpt2_folder}"\ntop_activations_file = "toml.json"\n'
    )
    (tmp_path / ".env").write_text("export TOP_ACTIVATIONS_FILE=dotenv.json\n")
    common = ["extract", "--sae-path", sae_folder, "--no-contexts", "--no-check", "--run-folder"]
    assert onesense(*common, tmp_path / "one").code == 0
    assert (tmp_path / "dotenv.json").exists()
    monkeypatch.setenv("TOP_ACTIVATIONS_FILE", "environment.json")
    assert onesense(*common, tmp_path / "one").code == 0
    assert (tmp_path / "environment.json").exists()
    assert onesense(*common, tmp_path / "one", "--output-file", "flag.json").code == 0
    assert (tmp_path / "flag.json").exists()
    assert not (tmp_path / "toml.json").exists()


def test_raw_and_bfloat16_lens(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    stds = []
    for index, extra in enumerate(([], ["--lens", "raw"], ["--lens-dtype", "bfloat16"])):
        run = tmp_path / str(index)
        outcome = onesense(
            "extract",
            gpt2_folder,
            "--sae-path",
            sae_folder,
            "--no-contexts",
            "--no-check",
            "--run-folder",
            run,
            *extra,
        )
        assert outcome.code == 0, outcome.err
        stds.append(LensStatistics.from_tensors(RunFolder.open(run).read_result("lens")).std)
    assert abs(stds[0] - stds[1]).max() > 0.01
    assert abs(stds[0] - stds[2]).max() < 0.05


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (["--lens", "purple"], 2, "lens"),
        (["--lens-dtype", "int8"], 2, "bfloat16"),
        (["--top-k", "0"], 2, "k"),
        (["--max-tokens", "0"], 2, "max_tokens"),
        (["--context-size", "4096"], 2, "between 2 and 128"),
        (["--text", "./no-such-file.txt"], 3, "no-such-file"),
        (["--dtype", "float64"], 2, "dtype"),
        (["--device", "cuda:9"], 10, "cuda:9"),
    ],
)
def test_bad_values(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path,
    changes: list[str], code: int, words: str,
) -> None:  # fmt: skip
    outcome = onesense("extract", *flags(gpt2_folder, sae_folder, text_file, tmp_path), *changes)
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run" / "lens.safetensors").exists() or "context" in " ".join(changes) or code == 3


def test_things_that_do_not_fit(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    def attempt(folder: Path) -> Outcome:
        return onesense(
            "extract",
            gpt2_folder,
            "--sae-path",
            folder,
            "--text",
            text_file,
            "--run-folder",
            tmp_path / "run",
        )

    wide = attempt(write_old_saelens(tmp_path / "wide", width=48))
    assert (wide.code, "48" in wide.err, "32" in wide.err) == (5, True, True)
    deep = attempt(write_old_saelens(tmp_path / "deep", hook_point="blocks.9.hook_resid_pre"))
    assert deep.code == 3
    assert "0 to 2" in deep.err
    odd = attempt(write_old_saelens(tmp_path / "odd", hook_point="blocks.1.ln1.hook_scale"))
    assert odd.code == 3
    broken = shutil.copytree(sae_folder, tmp_path / "broken")
    weights = broken / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert attempt(broken).code == 4
    weights.write_bytes(b"")
    assert attempt(broken).code == 4
    tensors = load_file(sae_folder / "sae_weights.safetensors")
    tensors["W_dec"][5, 1] = float("nan")
    save_file(tensors, weights)
    bad = attempt(broken)
    assert bad.code == 9
    assert "feature 5" in bad.err
    assert attempt(tmp_path / "nowhere").code == 3
    assert not (tmp_path / "run").exists()


def test_unknown_releases_offer_near_names(onesense: Run, gpt2_folder: Path) -> None:
    outcome = onesense("extract", gpt2_folder, "--sae-release", "gpt2-small-res-jp", "--sae-id", "x")
    assert outcome.code == 3
    assert "gpt2-small-res-jb" in outcome.err
    missing = onesense("extract", gpt2_folder)
    assert missing.code == 2
    assert "--sae-release" in missing.err


def test_a_second_writer_is_refused(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    arguments = flags(gpt2_folder, sae_folder, text_file, tmp_path)
    assert onesense("extract", *arguments).code == 0
    with exclusive_lock(tmp_path / "run"):
        outcome = onesense("extract", *arguments)
    assert outcome.code == 7
    assert "process" in outcome.err or "pid" in outcome.err


def test_a_newer_schema_is_refused(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    arguments = flags(gpt2_folder, sae_folder, text_file, tmp_path)
    assert onesense("extract", *arguments).code == 0
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    description["schema_version"] = 999
    (tmp_path / "run" / "run.json").write_text(json.dumps(description))
    outcome = onesense("extract", *arguments)
    assert outcome.code == 5
    assert "999" in outcome.err


def test_looking_into_a_run(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    assert onesense("extract", *flags(gpt2_folder, sae_folder, text_file, tmp_path)).code == 0
    shown = onesense("features", "show", 3, "--run-folder", tmp_path / "run")
    assert shown.code == 0, shown.err
    assert "promotes" in shown.out
    absent = onesense("features", "show", 64, "--run-folder", tmp_path / "run")
    assert absent.code == 3
    assert "63" in absent.err
    found = onesense("features", "search", '"unbalanced AND (', "--run-folder", tmp_path / "run")
    assert found.code == 0
    assert onesense("features", "search", "x", "--run-folder", tmp_path / "no").code == 3


def test_several_dictionaries_in_one_reading(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(sae_folder, other)
    weights = load_file(other / "sae_weights.safetensors")
    save_file({**weights, "b_enc": weights["b_enc"] + 0.5}, other / "sae_weights.safetensors")
    both = [*flags(gpt2_folder, sae_folder, text_file, tmp_path / "both"), "--sae-path", other]
    outcome = onesense("extract", *both)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("[64 rows x 7 columns]") == 2
    folders = sorted((tmp_path / "both/run").iterdir())
    assert len(folders) == 2
    assert all(f"Run folder: {folder}" in outcome.err for folder in folders)
    for name, path in (("one", sae_folder), ("two", other)):
        onesense("extract", *flags(gpt2_folder, path, text_file, tmp_path / name))
        alone = RunFolder.open(tmp_path / name / "run")
        digest = alone.provenance["inputs"]["dictionary"]["fingerprint"]
        [twin] = [
            folder
            for folder in folders
            if RunFolder.open(folder).provenance["inputs"]["dictionary"]["fingerprint"] == digest
        ]
        for result in alone.results():
            written = alone.result_path(result).read_bytes()
            assert (twin / f"{result}.safetensors").read_bytes() == written
    again = onesense("extract", *both)
    assert (again.code, again.out) == (0, outcome.out)


def test_several_dictionaries_do_not_fit_one_file(
    onesense: Run, gpt2_folder: Path, sae_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    one = flags(gpt2_folder, sae_folder, text_file, tmp_path)
    refused = onesense("extract", *one, "--sae-path", sae_folder, "--output-file", tmp_path / "out.json")
    assert refused.code == 2
    assert "--output-file" in refused.err
    twice = onesense("extract", *one, "--sae-path", sae_folder)
    assert twice.code == 2
    assert "Give each dictionary once" in twice.err
    assert not (tmp_path / "out.json").exists()
