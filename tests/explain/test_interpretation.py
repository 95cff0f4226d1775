"""Interpreting from Python: what is asked of whom, and what is refused before anything is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from cli.language_model_server import serve
from onesense.errors import ConfigurationError
from onesense.explain.asking import Prices, endpoint_settings
from onesense.explain.interpretation import Interpretation, InterpretSettings, interpret
from onesense.explain.source import TableSource, open_source
from onesense.store.catalog import Catalog
from onesense.store.explanations import read_explanations

WORDS = {3: "Ġmother Ġfather Ġsister Ġbrother", 8: "Ġred Ġblue Ġgreen Ġyellow", 20: "Ġriver"}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TableSource:
    monkeypatch.setenv("ONESENSE_CACHE", str(tmp_path / "cache"))
    table = tmp_path / "table.json"
    records = [{"feature": one, "top_activated_words": words} for one, words in WORDS.items()]
    table.write_text(json.dumps(records))
    made = open_source(None, table, word_sets=(), seed=0, device="cpu", default=tmp_path / "run")
    assert isinstance(made, TableSource)
    return made


def test_word_sets_explain_without_anyone_to_ask(source: TableSource, tmp_path: Path) -> None:
    lines: list[str] = []
    made = interpret(source, output=tmp_path / "out.json", tell=lines.append)
    assert made.features == [3, 8, 20]
    assert made.spent == ""
    assert made.scores == []
    assert lines == ["A table of features without contexts: 3 features to explain"]
    records = json.loads((tmp_path / "out.json").read_text())
    assert [record["feature"] for record in records] == [3, 8, 20]
    assert {record["method"] for record in records} == {"lexical"}
    assert all(record["explanation"].endswith(".") for record in records)


def test_a_language_model_is_asked_once_and_only_with_consent(
    source: TableSource, httpserver: HTTPServer
) -> None:
    script = serve(httpserver)
    endpoint = endpoint_settings(script.url, None, SecretStr("sk-test-key-000"))
    costly = InterpretSettings(
        features=[3, 20], endpoint=endpoint, prices=Prices(price_input=2, price_output=8)
    )
    asked: list[str] = []
    refused = Interpretation(source, costly, tell=asked.append, agree=lambda: False)
    with refused.opened() as catalog:
        refused.run(catalog)
    assert script.asked == 0
    assert any("estimated $" in line for line in asked)
    for _ in range(2):
        made = interpret(source, costly)
        assert script.asked == 2
    assert made.spent == "0 tokens in, 0 out, $0"
    with Catalog(made.run_folder.catalog_path, read_only=True) as catalog:
        assert [row.feature for row in read_explanations(catalog, method="llm")] == [3, 20]


def test_a_dry_run_only_estimates(source: TableSource, httpserver: HTTPServer) -> None:
    script = serve(httpserver)
    lines: list[str] = []
    settings = InterpretSettings(endpoint=endpoint_settings(script.url, "small", None), dry_run=True)
    interpret(source, settings, tell=lines.append)
    assert script.asked == 0
    assert any(line.startswith("Explaining: 3 requests") for line in lines)


def test_what_needs_a_language_model_or_contexts_is_refused(source: TableSource) -> None:
    for settings in (
        {"prices": Prices(batch=True)},
        {"prices": Prices(budget=1.0)},
        {"judge_lexical": True},
        {"senses": Path("somewhere")},
        {"scores": ("intruder",)},
    ):
        with pytest.raises(ConfigurationError, match="language model"):
            InterpretSettings(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no contexts"):
        interpret(source, InterpretSettings(scores=("detection",)))
