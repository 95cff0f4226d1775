"""Where the evidence of features comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explain.planted import Planted
from onesense.engine.stages import Silent
from onesense.errors import ConfigurationError, FormatError, IncompatibleError, NotFoundError
from onesense.explain.source import (
    RunSource,
    TableSource,
    listed_features,
    open_source,
    texts_of,
    with_contexts,
)
from onesense.store.run_folder import RunFolder

PRONOUNS = "she Ġshe Ġher Ġherself She Ġhers Her Ġhe Ġhim Ġhis"
FILLER = "Ġriver Ġstone Ġlamp Ġpaper Ġglass Ġdoor Ġquickly Ġ7 Ġblue Ġof"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "top.json"
    records = [
        {"feature": 900, "top_activated_words": FILLER},
        {"feature": 31, "top_activated_words": PRONOUNS},
    ]
    path.write_text(json.dumps(records))
    return path


def _open(folder: Path | None, table: Path | None, default: Path = Path("default"), **given: Any) -> Any:
    return open_source(
        folder, table, **{"word_sets": (), "seed": 0, "device": "cpu", "default": default, **given}
    )


def test_a_table_begins_a_run_and_its_features_keep_their_ids(table: Path, tmp_path: Path) -> None:
    source = _open(None, table, tmp_path / "run")
    assert isinstance(source, TableSource)
    assert source.run.path == tmp_path / "run"
    assert listed_features(table) == [31, 900]
    assert source.evidence(31).promoted[:2] == ("she", " she")
    assert source.evidence(31).train == ()
    for features in ([31, 900], [900], [900, 31]):
        found = source.lexical(features)
        assert list(found) == features
        assert [one.feature for one in found.values()] == features
    said = texts_of(source.lexical([31, 900]))
    assert said[31] != said[900]
    assert said[31] == source.lexical([31])[31].text
    assert isinstance(_open(tmp_path / "run", None), TableSource)
    assert source.count_tokens is None


def test_another_table_does_not_take_the_place_of_the_first(table: Path, tmp_path: Path) -> None:
    _open(tmp_path / "run", table)
    assert _open(tmp_path / "run", table).evidence(900).feature == 900
    table.write_text(json.dumps([{"feature": 1, "top_activated_words": "a"}]))
    with pytest.raises(IncompatibleError):
        _open(tmp_path / "run", table)


def test_what_there_is_not(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing to explain"):
        _open(None, None)
    with pytest.raises(ConfigurationError, match="nothing to explain"):
        _open(tmp_path / "nowhere", None)
    with pytest.raises(NotFoundError):
        _open(None, tmp_path / "absent.json")
    other = RunFolder.create_or_resume(tmp_path / "other", command="audit", configuration={}, provenance={})
    with pytest.raises(IncompatibleError, match="onesense audit"):
        _open(other.path, None)
    source = _open(tmp_path / "run", table)
    with pytest.raises(NotFoundError, match="no feature 5"):
        source.evidence(5)
    with pytest.raises(ConfigurationError, match="no contexts") as caught:
        with_contexts(source)
    assert "--run-folder" in (caught.value.hint or "")
    table.write_text("[]")
    with pytest.raises(FormatError):
        listed_features(table)


@pytest.fixture
def source(planted: Planted) -> RunSource:
    found = _open(planted.run.path, None)
    assert isinstance(found, RunSource)
    # The model of this run is in memory only.
    vars(found)["model"] = planted.model
    return found


def test_an_extracted_run_has_contexts(source: RunSource, planted: Planted) -> None:
    assert with_contexts(source) is source
    assert source.evidence(4) == planted.reader().evidence(4)
    assert source.count_tokens("w1 w2 w3") == 3
    assert "planted" in source.describe()
    found = source.lexical([7, 2])
    assert [(feature, one.feature) for feature, one in found.items()] == [(7, 7), (2, 2)]
    assert "w7" in found[7].text


def test_contexts_for_scoring_are_not_looked_at(source: RunSource, planted: Planted) -> None:
    """Where all documents are for scoring, word sets have no context to go by."""
    every = {document.index for document in planted.documents()}
    assert source.lexical([3])[3].contexts > 0
    test = {passage.document for passage in source.evidence(3).test}
    train = {passage.document for passage in source.evidence(3).train}
    assert test
    assert train
    assert not test & train
    assert test | train <= every
    other = _open(planted.run.path, None, seed=1)
    vars(other)["model"] = planted.model
    assert {one.document for one in other.evidence(3).test} != test


def test_scoring_needs_the_text_of_the_run(source: RunSource) -> None:
    with pytest.raises(IncompatibleError, match="from another text") as caught:
        source.negatives(None, Silent())
    assert "--text" in (caught.value.hint or "")


def test_senses_of_a_run_without_a_dictionary_are_not_those_of_this_one(
    source: RunSource, tmp_path: Path
) -> None:
    other = RunFolder.create_or_resume(tmp_path / "other", command="audit", configuration={}, provenance={})
    with pytest.raises(IncompatibleError, match="another dictionary"):
        source.senses(other.path)
    with pytest.raises(NotFoundError):
        source.senses(tmp_path / "nowhere")
