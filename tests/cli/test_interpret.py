"""``onesense interpret`` from end to end, with a small model's features and a scripted language model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from cli.killable import start
from cli.language_model_server import COMPLETION_TOKENS, PROMPT_TOKENS, Script, serve
from command_line import Run
from onesense.store.catalog import Catalog
from onesense.store.explanations import read_explanations, read_scores
from onesense.store.run_folder import RunFolder

CANARY = "sk-canary-7c1f0e5d93ab"
FEATURES = 64


def _records(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text()))


def _explanations(run: Path, **chosen: Any) -> list[Any]:
    with Catalog(RunFolder.open(run).catalog_path, read_only=True) as catalog:
        return read_explanations(catalog, **chosen)


def test_without_a_key_word_sets_explain(onesense: Run, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    outcome = onesense("interpret", "--run-folder", run, "--output_file", out)
    assert outcome.code == 0, outcome.err
    assert f"Results saved to '{out}'" in outcome.err
    records = _records(out)
    assert len(records) == FEATURES
    assert {record["method"] for record in records} == {"lexical"}
    assert all(record["explanation"].endswith(".") for record in records)
    before = out.read_bytes()
    assert onesense("interpret", "--run-folder", run, "--output_file", out).code == 0
    assert out.read_bytes() == before


def test_a_set_of_the_users_own(onesense: Run, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "vowels.txt"
    path.write_text("# vowels alone\na\ne\ni\no\nu\n")
    outcome = onesense("interpret", "--run-folder", run, "--word-set", path)
    assert outcome.code == 0, outcome.err
    path.write_bytes(b"\xff\xfe")
    outcome = onesense("interpret", "--run-folder", run, "--word-set", path)
    assert outcome.code in (2, 4)
    assert str(path) in outcome.err
    assert "Traceback" not in outcome.err


def test_a_language_model_explains_and_judges(
    onesense: Run, run: Path, script: Script, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    flags = (
        "interpret", "--run-folder", run, "--base-url", script.url, "--output-file", out,
        "--score", "detection,fuzz,intruder", "--text", text, "--judge-lexical",
    )  # fmt: skip
    outcome = onesense(*flags)
    assert outcome.code == 0, outcome.err
    assert script.systems["You explain"] == FEATURES
    records = _records(out)
    assert {record["status"] for record in records} == {"ok"}
    assert {record["model"] for record in records} == {"small"}
    assert records[3]["explanation"].startswith("words of kind")
    assert records[3]["lexical"].endswith(".")
    with Catalog(RunFolder.open(run).catalog_path, read_only=True) as catalog:
        rows = read_scores(catalog)
    authors = {(row.kind, row.method, row.judge) for row in rows}
    assert authors == {
        ("detection", "llm", "small"),
        ("fuzz", "llm", "small"),
        ("intruder", "none", "small"),
        ("detection", "lexical", "small"),
        ("fuzz", "lexical", "small"),
        ("detection", "lexical", "lexical"),
        ("fuzz", "lexical", "lexical"),
    }
    assert any(row.value is not None and row.baseline is not None for row in rows)
    assert "judged by small" in outcome.out
    asked = script.asked
    again = onesense(*flags)
    assert again.code == 0, again.err
    assert script.asked == asked  # everything is stored
    assert f"{FEATURES} ok" in again.out


def test_the_explained_text_is_never_the_judged_one(
    onesense: Run, run: Path, script: Script, text: Path
) -> None:
    assert onesense(
        "interpret", "--run-folder", run, "--base-url", script.url, "--score", "detection", "--text", text
    ).code == 0  # fmt: skip
    numbers: dict[str, set[str]] = {"explain": set(), "judge": set()}
    for prompt in script.prompts:
        side = "explain" if prompt.startswith("Promoted tokens") else "judge"
        numbers[side] |= set(re.findall(r"N(\d\d\d)", re.sub("<<|>>", "", prompt)))
    assert len(numbers["explain"]) > 10
    assert len(numbers["judge"]) > 10
    assert not numbers["explain"] & numbers["judge"]


def test_the_originals_command_flag_for_flag(
    onesense: Run, run: Path, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "interpreted_features.json"
    monkeypatch.setenv("OPENAI_BASE_URL", script.url)
    outcome = onesense(
        "interpret",
        "--input_file", tmp_path / "top.json",
        "--output_file", out,
        "--openai_api_key", CANARY,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert script.keys == {f"Bearer {CANARY}"}
    records = _records(out)
    assert len(records) == FEATURES
    assert {record["method"] for record in records} == {"llm"}
    assert CANARY not in outcome.out + outcome.err


def test_the_originals_names_in_dotenv(onesense: Run, run: Path, script: Script, tmp_path: Path) -> None:
    Path(".env").write_text(
        f"TOP_ACTIVATIONS_FILE={tmp_path / 'top.json'}\nINTERPRETED_FEATURES_FILE={tmp_path / 'out.json'}\n"
        f"OPENAI_API_KEY={CANARY}\nOPENAI_BASE_URL={script.url}\n"
    )
    outcome = onesense("interpret")
    assert outcome.code == 0, outcome.err
    assert len(_records(tmp_path / "out.json")) == FEATURES
    assert script.asked == FEATURES


def test_only_some_features(onesense: Run, run: Path, script: Script, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    flags = ("interpret", "--run-folder", run, "--base-url", script.url, "--output-file", out)
    assert onesense(*flags, "--features", "3,10-12").code == 0
    assert [one["feature"] for one in _records(tmp_path / "out.json")] == [3, 10, 11, 12]
    assert script.asked == 4
    assert onesense(*flags, "--most", 6).code == 0
    assert script.asked == 4 + 5  # 3 is known
    table = tmp_path / "two.json"
    table.write_text(json.dumps([{"feature": one, "top_activated_words": "a"} for one in (20, 21)]))
    assert onesense(*flags, "--input-file", table).code == 0
    assert [one["feature"] for one in _records(tmp_path / "out.json")] == [20, 21]


def test_a_table_of_a_few_features(onesense: Run, script: Script, tmp_path: Path) -> None:
    table, out = tmp_path / "few.json", tmp_path / "out.json"
    words = {4582: "Ġlittle Ġsmall Ġtiny", 460: "Ġshe Ġher", 7: ""}
    table.write_text(
        json.dumps([{"feature": one, "top_activated_words": text} for one, text in words.items()])
    )
    outcome = onesense("interpret", "--input-file", table, "--output-file", out, "--base-url", script.url)
    assert outcome.code == 0, outcome.err
    records = _records(out)
    assert [one["feature"] for one in records] == sorted(words)
    assert records[2]["top_activated_words"] == [" little", " small", " tiny"]
    assert any('" little", " small", " tiny"' in prompt for prompt in script.prompts)


def test_a_budget_stops_and_keeps_what_was_paid_for(
    onesense: Run, run: Path, script: Script, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    flags = (
        "interpret", "--run-folder", run, "--base-url", script.url, "--output-file", out, "--concurrency", 2,
        "--price-input", 1000, "--price-output", 1000,
    )  # fmt: skip
    each = (PROMPT_TOKENS + COMPLETION_TOKENS) * 1000 / 1e6
    outcome = onesense(*flags, "--budget", 10)
    assert outcome.code == 14
    assert "Traceback" not in outcome.err
    assert 0 < script.asked <= 10 / each
    kept = [one for one in _records(out) if one["model"]]
    assert len(kept) == script.asked
    before = script.asked
    assert onesense(*flags, "--budget", 100).code == 0
    assert script.asked == FEATURES
    assert max(script.prompts.values()) == 1
    assert before < FEATURES


def test_a_dry_run_asks_nothing(onesense: Run, run: Path, script: Script) -> None:
    outcome = onesense(
        "interpret", "--run-folder", run, "--base-url", script.url, "--dry-run", "--price-input", 2,
        "--price-output", 8,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert f"Explaining: {FEATURES} requests" in outcome.err
    assert "$" in outcome.err
    assert script.asked == 0


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_at_once(onesense: Run, run: Path, script: Script, status: int) -> None:
    script.fault = lambda _number: Response(
        json.dumps({"error": {"message": f"Incorrect API key provided: {CANARY}"}}),
        status=status,
        content_type="application/json",
    )
    outcome = onesense(
        "interpret", "--run-folder", run, "--base-url", script.url, "--openai-api-key", CANARY,
        "--concurrency", 4,
    )  # fmt: skip
    assert outcome.code == 13
    assert script.asked <= 4
    assert CANARY not in outcome.err + outcome.out
    assert "Traceback" not in outcome.err


def test_failures_are_no_explanations_and_no_scores(
    onesense: Run, run: Path, script: Script, text: Path, tmp_path: Path
) -> None:
    replies = ["I am sorry, I cannot help with that.", "", '{"explanation": ""}', "<html>busy</html>"]
    script.answer = lambda system, user: replies[len(user) % 4]
    out = tmp_path / "out.json"
    outcome = onesense(
        "interpret", "--run-folder", run, "--base-url", script.url, "--output-file", out,
        "--score", "detection,intruder", "--text", text,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    records = _records(out)
    assert {record["explanation"] for record in records} == {None}
    assert {record["status"] for record in records} == {"unparseable"}
    assert re.search(rf"Warning: {FEATURES} unparseable, most often: \w.*form that is asked for", outcome.err)
    values = [one["value"] for record in records for one in record["scores"] if one["judge"] == "small"]
    assert values
    assert set(values) == {None}
    assert onesense("features", "search", "sorry OR busy", "--run-folder", run).out == ""


def test_a_killed_run_goes_on_and_pays_nothing_twice(
    onesense: Run, run: Path, script: Script, tmp_path: Path
) -> None:
    script.fault = lambda _number: time.sleep(0.05)
    flags = (
        "interpret", "--run-folder", run, "--base-url", script.url, "--output-file", tmp_path / "out.json",
        "--concurrency", 2, "--quiet",
    )  # fmt: skip
    # Before anything is in the catalogue, and after its first part is.
    for most in (5, 25, 45):
        process = start(flags, err=tmp_path / "err.txt")
        while script.asked < most and process.is_alive():
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "err.txt").read_text()
        time.sleep(0.3)  # what the server has begun to answer
    done = onesense(*flags)
    assert done.code == 0, done.err
    assert len(_records(tmp_path / "out.json")) == FEATURES
    assert len(script.prompts) == FEATURES
    # Only what was in flight when it was killed can have been asked again: its reply never arrived.
    assert script.asked - FEATURES <= 2 * 3


def test_the_key_is_found_nowhere(run: Path, script: Script, tmp_path: Path) -> None:
    started = time.monotonic()

    def slow(number: int) -> Response | None:
        time.sleep(0.05)
        return Response("no", status=500) if number % 3 == 0 else None

    script.fault = slow
    flags = (
        "interpret", "--run-folder", run, "--base-url", script.url, "--openai_api_key", CANARY,
        "--output-file", tmp_path / "out.json", "--features", "0-7", "--quiet",
    )  # fmt: skip
    command = [sys.executable, "-c", "from onesense.cli.main import main; main()", *map(str, flags)]
    environment = {**os.environ, "OPENAI_LOG": "debug", "PYTHONASYNCIODEBUG": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    while script.asked == 0 and process.poll() is None and time.monotonic() - started < 120:
        time.sleep(0.01)
    listed = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert b"interpret" in listed
    assert CANARY.encode() not in listed
    assert CANARY not in out + err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "replies.sqlite" for path in files)
    for path in files:
        assert CANARY.encode() not in path.read_bytes(), path


def test_which_of_several_models(
    onesense: Run, run: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    script = serve(httpserver, models=("small", "large"))
    outcome = onesense("interpret", "--run-folder", run, "--base-url", script.url)
    assert outcome.code == 2
    assert "small, large" in outcome.err
    assert onesense("interpret", "--run-folder", run, "--base-url", script.url, "--model", "large").code == 0
    assert {row.model for row in _explanations(run, method="llm")} == {"large"}
