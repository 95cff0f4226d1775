"""``onesense interpret`` with what its users will get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Run
from onesense.store.run_folder import RunFolder


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--explainer", "magic"], 2, "no explainer 'magic'"),
        (["--explainer", "llm"], 2, "key or an address"),
        (["--score", "detection,luck"], 2, "no score 'luck'"),
        (["--score", ""], 2, "no score"),
        (["--score", "intruder"], 2, "intruder"),
        (["--features", "3-"], 2, "names no features"),
        (["--features", "9-3"], 2, "names no features"),
        (["--features", "-1"], 2, "names no features"),
        (["--features", "999"], 3, "no feature 999"),
        (["--batch"], 2, "--batch"),
        (["--budget", "1"], 2, "--budget"),
        (["--senses", "nowhere"], 2, "--senses"),
        (["--senses", "nowhere", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"], 3, "nowhere"),
        (["--word-set", "nowhere.txt"], 3, "nowhere.txt"),
        (["--base-url", "ftp://x/v1", "--model", "m"], 2, "http"),
        (["--base-url", "http://user:pass@127.0.0.1/v1", "--model", "m"], 2, "password"),
        (["--base-url", "http://example.org/v1", "--model", "m", "--openai-api-key", "k"], 2, "plain http"),
        (["--base-url", "http://127.0.0.1:9/v1", "--model", "m"], 13, "127.0.0.1:9"),
        (["--base-url", "http://127.0.0.1:9/v1"], 2, "--model"),
        (["--score", "fuzz", "--ray", "127.0.0.1:9"], 2, "127.0.0.1:9"),
        (["--score", "fuzz", "--ray", "nowhere"], 2, "nowhere"),
    ],
)
def test_bad_input(onesense: Run, run: Path, arguments: list[str], code: int, said: str) -> None:
    outcome = onesense("interpret", "--run-folder", run, *arguments)
    assert outcome.code == code, outcome.err
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert "pass@" not in outcome.err


def test_without_scores_no_cluster_is_asked(onesense: Run, run: Path) -> None:
    outcome = onesense("interpret", "--run-folder", run, "--ray", "127.0.0.1:9", "--features", "0-2")
    assert outcome.code == 0, outcome.err
    assert "No cluster is asked" in outcome.err


def test_nothing_to_explain(onesense: Run, run: Path, tmp_path: Path) -> None:
    outcome = onesense("interpret")
    assert outcome.code == 2
    assert "nothing to explain" in outcome.err
    assert onesense("interpret", "--input-file", tmp_path / "absent.json").code == 3
    scored = onesense("interpret", "--input-file", tmp_path / "top.json", "--score", "detection")
    assert scored.code == 2
    assert "no contexts" in scored.err
    other = RunFolder.create_or_resume(tmp_path / "other", command="audit", configuration={}, provenance={})
    wrong = onesense("interpret", "--run-folder", other.path)
    assert wrong.code == 5
    assert "onesense audit" in wrong.err


def test_scores_of_another_text_are_refused(onesense: Run, run: Path) -> None:
    outcome = onesense("interpret", "--run-folder", run, "--score", "detection")
    assert outcome.code == 5
    assert "--text" in outcome.err
