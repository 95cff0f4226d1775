"""lm-evaluation-harness as an oracle of the scorer, and onesense as one of its models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks.crows_pairs.utils import process_results

from onesense.bias.benchmarks.blimp import Blimp
from onesense.bias.benchmarks.crows_pairs import CrowsPairs
from onesense.bias.scoring.scorer import ModelScorer
from onesense.bias.statistics.moments import cluster_moments, values_of
from onesense.interop.harness import OnesenseLM
from onesense.model.language_model import LanguageModel
from onesense.sae.load import load_dictionary
from onesense.steer.edit import Edit
from onesense.steer.intervention import EditGroup
from onesense.steer.recipe import make_recipe, write_recipe

TASK = """
task: agreement
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[good, bad]}}}}"
target_delimiter: ""
metric_list:
  - metric: acc
"""
PAIRS = [
    {"good": "The cats are here.", "bad": "The cats is here."},
    {"good": "She saw herself in the mirror.", "bad": "She saw themselves in the mirror."},
    {"good": "Who did he see?", "bad": "Who did he see her?"},
]


def requests(*pairs: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=pair) for pair in pairs]


@pytest.fixture(scope="module")
def theirs(demo_model: LanguageModel) -> HFLM:
    """The harness's own class around the same weights."""
    return HFLM(pretrained=demo_model.hf, tokenizer=demo_model.tokenizer, batch_size=16)


@pytest.fixture(scope="module")
def ours(demo_model: LanguageModel) -> OnesenseLM:
    made = OnesenseLM()
    made.model = demo_model
    return made


def published() -> None:
    if not os.environ.get("ONESENSE_DATA"):
        pytest.skip("needs the benchmark data (ONESENSE_DATA)")


def test_crows_pairs_scores_are_those_of_the_harness(demo_model: LanguageModel, theirs: HFLM) -> None:
    published()
    benchmark, scorer = CrowsPairs(), ModelScorer(demo_model)
    items = benchmark.items(scorer)
    texts = [request.text for item in items for request in item.requests]
    found = [score.logprob for score in scorer.score([r for item in items for r in item.requests])[0]]
    wanted = theirs.loglikelihood(requests(*(("", text) for text in texts)), disable_tqdm=True)
    np.testing.assert_allclose(found, [one[0] for one in wanted], atol=1e-4, rtol=5e-6)
    columns = benchmark.measure(items, scorer)[0]
    clusters = [item.cluster for item in items]
    by_doc = [process_results({}, wanted[at : at + 2]) for at in range(0, len(wanted), 2)]
    for name, ours_name, scale in (
        ("pct_stereotype", "pct_stereotype_summed", 100),
        ("likelihood_diff", "likelihood_diff", 1),
    ):
        metric = next(one for one in benchmark.metrics if one.name == ours_name)
        table = cluster_moments(metric, columns, clusters)
        value = float(values_of(metric, table.sums.sum(axis=0)))
        assert value == pytest.approx(scale * np.mean([one[name] for one in by_doc]), abs=1e-3)


def test_blimp_scores_are_those_of_the_harness(demo_model: LanguageModel, theirs: HFLM) -> None:
    published()
    scorer = ModelScorer(demo_model)
    items = Blimp(per_paradigm=3).items(scorer)[:200]
    assert len(items) == 200
    asked = [request for item in items for request in item.requests]
    found = [score.logprob for score in scorer.score(asked)[0]]
    wanted = theirs.loglikelihood(requests(*(("", one.text) for one in asked)), disable_tqdm=True)
    np.testing.assert_allclose(found, [one[0] for one in wanted], atol=1e-4, rtol=5e-6)


def test_continuations_and_rolling_scores_are_those_of_the_harness(ours: OnesenseLM, theirs: HFLM) -> None:
    asked = requests(
        ("The nurse said that", " she"),
        ("The nurse said that ", "he"),
        ("", "Once upon a time"),
        ("One two", " three four"),
    )
    for (a, greedy), (b, wanted) in zip(
        ours.loglikelihood(asked), theirs.loglikelihood(asked, disable_tqdm=True), strict=True
    ):
        assert a == pytest.approx(b, abs=1e-4)
        assert greedy == wanted
    rolling = requests(("The quick brown fox jumps over the lazy dog. " * 3,))
    assert ours.loglikelihood_rolling(rolling) == pytest.approx(
        theirs.loglikelihood_rolling(rolling, disable_tqdm=True), abs=1e-3
    )


def test_greedy_text_is_that_of_the_harness(ours: OnesenseLM, theirs: HFLM) -> None:
    asked = requests(("The capital of France is", {"until": ["."], "max_gen_toks": 8, "do_sample": False}))
    assert ours.generate_until(asked) == theirs.generate_until(asked, disable_tqdm=True)


def test_a_task_runs_on_a_model_with_a_recipe(demo_model: LanguageModel, tmp_path: Path) -> None:
    data, recipe = tmp_path / "pairs.jsonl", tmp_path / "recipe.json"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "agreement.yaml").write_text(TASK.format(file=data), encoding="utf-8")
    dictionary = load_dictionary(release="demo", sae_id="blocks.15.hook_resid_post")
    write_recipe(make_recipe(demo_model, [EditGroup(dictionary, [Edit.plain(10, 400.0)])]), recipe)
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    accuracies, answers = [], []
    for arguments in ("pretrained=demo", f"pretrained=demo,recipe={recipe}"):
        found = simple_evaluate(
            model="onesense",
            model_args=arguments,
            tasks=["agreement"],
            task_manager=manager,
            bootstrap_iters=0,
        )
        accuracies.append(found["results"]["agreement"]["acc,none"])
        answers.append([sample["resps"] for sample in found["samples"]["agreement"]])
    assert accuracies[0] == 1.0
    assert answers[0] != answers[1]


def test_the_command_line_of_the_harness_knows_the_model(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), encoding="utf-8")
    (tmp_path / "agreement.yaml").write_text(TASK.format(file=data), encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "onesense",
            "lm-eval",
            "run",
            "--model",
            "onesense",
            "--model_args",
            "pretrained=demo",
            "--include_path",
            str(tmp_path),
            "--tasks",
            "agreement",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "agreement" in done.stdout
