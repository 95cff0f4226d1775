"""``onesense senses field-metrics``: a table, JSON, and refusals before any work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from command_line import Outcome, Run
from onesense.sae.dictionary import Origin
from onesense.sae.write import write_saelens
from tiny_dictionaries import random_dictionary


@pytest.fixture(scope="module")
def dictionary_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dictionary = random_dictionary(d_in=32, d_sae=60)
    known = replace(dictionary, origin=Origin(sparsity=torch.full((60,), -1.0)))
    return write_saelens(known, tmp_path_factory.mktemp("saes") / "known")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    rows = [
        ("word", "sentence_1", "sentence_2", "label"),
        ("bank", "The bank lent money.", "They sat on the bank.", "different"),
        ("cell", "A cell divides.", "Each cell has a wall.", "same"),
        ("light", "Light fell in.", "The bag is light", "different"),
        ("plant", "The plant grew.", "Water the plant!", "same"),
    ]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    return path


def _told(outcome: Outcome, *words: str, code: int = 2) -> None:
    assert outcome.code == code, outcome.err
    assert all(word in outcome.err for word in words), outcome.err
    assert "Traceback" not in outcome.err


def test_metrics_are_shown_with_intervals_and_written(
    onesense: Run, gpt2_folder: Path, dictionary_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    target = tmp_path / "metrics.json"
    outcome = onesense(
        "senses",
        "field-metrics",
        gpt2_folder,
        "--sae-path",
        dictionary_folder,
        "--word-pairs",
        pairs,
        "--draws",
        50,
        "--no-check",
        "--output",
        target,
        "--quiet",
    )
    assert outcome.code == 0, outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0][0] == "metric"
    assert {line[0] for line in lines[1:]} == {"fms", "probing", "decoder-cosine", "meta", "ps-eval"}
    found = json.loads(target.read_text())
    (accuracy,) = (
        line for line in outcome.out.splitlines() if line.startswith("ps-eval") and "accuracy" in line
    )
    assert accuracy.split()[2] == f"{found['polysemy']['accuracy']['value']:.3f}"
    fms = next(line for line in outcome.out.splitlines() if "FMS@1, features" in line)
    score = found["monosemanticity"]["score"]["1"]
    assert f"{score['value']:.3f}" in fms
    assert f"[{score['low']:.3f}, {score['high']:.3f}]" in fms
    assert "60 of 60 features are live" in outcome.err
    assert "4 pairs of 4 words" in outcome.err
    assert found["texts"] > 800


def test_a_metric_is_left_out_where_it_is_not_named(
    onesense: Run, gpt2_folder: Path, dictionary_folder: Path
) -> None:
    outcome = onesense(
        "senses",
        "field-metrics",
        gpt2_folder,
        "--sae-path",
        dictionary_folder,
        "--metrics",
        "decoder-cosine, meta",
        "--no-check",
        "--quiet",
    )
    assert outcome.code == 0, outcome.err
    assert {line.split()[0] for line in outcome.out.splitlines()[1:]} == {"decoder-cosine", "meta"}


def test_bad_requests_are_told_in_a_line(
    onesense: Run, gpt2_folder: Path, dictionary_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    command = (
        "senses",
        "field-metrics",
        gpt2_folder,
        "--sae-path",
        dictionary_folder,
        "--no-check",
        "--quiet",
    )
    _told(onesense(*command, "--metrics", "fms,absorption"), "'absorption'", "decoder-cosine")
    _told(onesense(*command, "--metrics", ","), "No metric")
    _told(onesense(*command, "--metrics", "ps-eval"), "none were given", "--word-pairs")
    _told(onesense(*command, "--metrics", "fms", "--word-pairs", pairs), "leaves ps-eval out")
    _told(onesense(*command, "--pooling", "median"), "'median'", "mean, max, last")
    _told(onesense(*command, "--draws", 0), "at least one draw")
    _told(onesense(*command, "--max-tokens", 0), "0 tokens")
    _told(onesense(*command, "--word-pairs", tmp_path / "none.tsv"), "no file", code=3)
    wide = write_saelens(random_dictionary(d_in=20), tmp_path / "wide")
    _told(
        onesense("senses", "field-metrics", gpt2_folder, "--sae-path", wide, "--no-check", "--quiet"),
        "20",
        "32",
        code=5,
    )
