from __future__ import annotations

from pathlib import Path

from command_line import Run
from onesense.sae.load import load_dictionary


def test_train_check_and_list(onesense: Run, gpt2_folder: Path, text_file: Path, tmp_path: Path) -> None:
    arguments = ["sae", "train", gpt2_folder, "--hook-point", "blocks.1.hook_resid_post", "--text", text_file]
    arguments += ["--architecture", "topk", "--k", 12, "--d-sae", 64, "--visits", 60_000, "--batch-size", 128]
    arguments += [
        "--learning-rate",
        0.003,
        "--context-size",
        64,
        "--run-folder",
        tmp_path / "run",
        "--dtype",
        "float32",
    ]
    outcome = onesense(*arguments)
    assert outcome.code == 0, outcome.err
    assert "FVU" in outcome.out
    folder = tmp_path / "run" / "dictionaries" / "blocks.1.hook_resid_post"
    assert load_dictionary(path=folder).d_sae == 64
    assert (tmp_path / "run" / "curves-blocks.1.hook_resid_post.png").exists()
    assert onesense(*arguments).out == outcome.out
    checked = onesense("sae", "check", gpt2_folder, "--sae-path", folder, "--text", text_file)
    assert checked.code == 0, checked.err
    assert "fits" in checked.out
    listed = onesense("sae", "list", "gpt2-small-res-jb")
    assert "blocks.0.hook_resid_pre" in listed.out.splitlines()
    assert "demo" in onesense("sae", "list").out.splitlines()


def test_bad_values(onesense: Run, gpt2_folder: Path, text_file: Path) -> None:
    base = ["sae", "train", gpt2_folder, "--text", text_file]
    assert onesense(*base).code == 2
    assert onesense(*base, "--hook-point", "blocks.1.hook_nonsense").code == 3
    assert onesense(*base, "--hook-point", "blocks.7.hook_resid_post").code == 3
    relu = onesense(*base, "--hook-point", "blocks.1.hook_resid_post", "--architecture", "relu")
    assert relu.code == 2
    assert "batchtopk" in relu.err
    assert onesense(*base, "--hook-point", "blocks.1.hook_resid_post", "--k", 0).code == 2
