"""Measured senses as rows of the catalogue, and as text."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from onesense.model.language_model import LanguageModel
from onesense.senses.measure import Measured, MeasureSettings, measure_senses
from onesense.senses.sampling import Sample
from onesense.senses.sense_catalog import contexts_of, top_tokens, write_sense_catalog
from onesense.store.catalog import Catalog
from onesense.store.senses import read_senses
from senses.planted_contexts import activity_of, documents, quick_judge, sparse_dictionary


@pytest.fixture(scope="module", autouse=True)
def _quick_judge() -> Iterator[None]:
    with quick_judge():
        yield


@pytest.fixture(scope="module")
def measured(tiny_llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("senses")
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": one.text}) + "\n" for one in documents()))
    settings = MeasureSettings(
        text=str(folder / "text.jsonl"),
        context_size=64,
        contexts=16,
        check=False,
        others=("residual basis",),
    )
    return measure_senses(tiny_llama, sparse_dictionary(tiny_llama), folder / "run", settings)


def test_the_catalogue_says_what_the_tables_say(measured: Measured, tiny_llama: LanguageModel) -> None:
    write_sense_catalog(measured, tiny_llama)
    before = measured.run.catalog_path.read_bytes()
    write_sense_catalog(measured, tiny_llama)
    assert measured.run.catalog_path.read_bytes() == before
    with Catalog(measured.run.catalog_path, read_only=True) as catalog:
        rows = read_senses(catalog, limit=1000)
    assert len(rows) == 120 + 32
    for row in rows:
        table = measured.tables[row.unit_set]
        assert (row.number or 0) == table.number[row.unit]
        assert row.density == pytest.approx(float(table.density[row.unit]))
        assert row.documents == table.documents[row.unit]
        if row.number is None:
            assert row.effective is None
            continue
        assert row.several == pytest.approx(float(table.several[row.unit]))
        assert len(row.tokens) == row.number
        assert all(1 <= len(tokens) <= 5 for tokens in row.tokens)


def test_tokens_are_those_that_carry_most() -> None:
    activity = activity_of({}, np.ones((200, 4)))  # the token is the position modulo 50
    sample = Sample(np.array([3, 53, 7, 9], np.int32), np.array([2, 2, 3, 1], np.float32))
    assert top_tokens(activity, sample) == [3, 7, 9]
    assert top_tokens(activity, sample, 1) == [3]
    assert top_tokens(activity, Sample(np.empty(0, np.int32), np.empty(0, np.float32))) == []


def test_contexts_are_pieces_of_the_text(measured: Measured, tiny_llama: LanguageModel) -> None:
    table, activity = measured.tables["features"], measured.measurement.activity
    unit = int(np.flatnonzero(table.known)[0])
    found = contexts_of(tiny_llama, activity, table, unit, 0, 4)
    assert len(found) == 4
    texts = [one.text for one in documents()]
    assert [one.activation for one in found] == sorted((one.activation for one in found), reverse=True)
    for one in found:
        assert len(one.token) == 1
        assert len(one.before) <= 12
        assert len(one.after) <= 6
        assert any(one.before + one.token + one.after in text for text in texts)
    sample = table.sense(unit, 0)
    assert found[0].token == tiny_llama.decode([int(activity.token[sample.position[0]])])
    assert contexts_of(tiny_llama, activity, table, unit, 99, 4) == []
