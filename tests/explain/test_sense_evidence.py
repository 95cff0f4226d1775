"""Evidence of one sense: its own contexts only."""

from __future__ import annotations

import numpy as np
import pytest

from explain.planted import planted_model
from onesense.errors import NotFoundError
from onesense.explain.evidence import FeatureEvidence, is_train
from onesense.explain.prompts import explain_request
from onesense.explain.sense_evidence import SenseEvidenceReader
from onesense.senses.measure import FEATURES, result_name
from onesense.senses.sense_table import SenseTable
from onesense.store.run_folder import RunFolder

_DOCUMENTS, _WINDOW, _EACH = 40, 20, 40


@pytest.fixture
def reader(tmp_path) -> SenseEvidenceReader:
    """Two windows a document; sense 0 is at w10 (odd documents), sense 1 at w20 (even ones)."""
    run = RunFolder.create_or_resume(
        tmp_path / "run", command="senses measure", configuration={"others": []}, provenance={}
    )
    document = np.repeat(np.arange(_DOCUMENTS), _EACH)
    offset = np.tile(np.arange(_EACH), _DOCUMENTS)
    token = np.random.default_rng(0).integers(3, 12, len(document))
    position = np.arange(_DOCUMENTS) * _EACH + 25
    label = (np.arange(_DOCUMENTS) + 1) % 2
    token[position] = 3 + np.where(label == 0, 10, 20)
    # A position was left out behind the third token of each second window.
    kept = offset != _WINDOW + 2
    moved = np.cumsum(kept) - 1
    columns = {"token": token, "before": token, "document": document, "offset": offset}
    columns["window"] = 2 * document + offset // _WINDOW
    with run.lock():
        run.write_result(
            "activity/shard-0000", {name: array[kept].astype(np.int32) for name, array in columns.items()}
        )
        one = np.ones(2, np.float32)
        table = SenseTable(
            np.array([2, 0], np.int32), one, one, one, one, one, np.array([_DOCUMENTS, 0], np.int32),
            np.stack([moved[position], np.full(_DOCUMENTS, -1)]).astype(np.int32),
            np.stack([1 + np.arange(_DOCUMENTS), np.zeros(_DOCUMENTS)]).astype(np.float32),
            np.stack([label, np.full(_DOCUMENTS, -1)]).astype(np.int16),
        )  # fmt: skip
        run.write_result(result_name(FEATURES), table.to_tensors())
    return SenseEvidenceReader(run, planted_model(), seed=0)


def test_each_sense_has_its_own_contexts(reader) -> None:
    assert (reader.senses(0), reader.senses(1)) == (2, 0)
    whole = FeatureEvidence(0, promoted=("a",))
    for sense, word in ((0, 13), (1, 23)):
        found = reader.evidence(whole, sense)
        assert found.sense == sense
        assert len(found.train) > 4
        assert len(found.test) > 4
        assert found.promoted == ("a",)
        for passage in found.train + found.test:
            assert passage.token_ids[passage.peak] == word
            assert passage.document % 2 == 1 - sense
            assert is_train(passage.document, 0) == (passage in found.train)
            # Neither over the edge of the window, nor over the position that was left out.
            assert passage.start == _WINDOW + 3
            assert passage.stop == 25 + 8
            assert sum(value > 0 for value in passage.activations) == 1
        assert "one of its senses" in explain_request(found).user


def test_what_there_is_not(reader) -> None:
    with pytest.raises(NotFoundError, match="no feature 2"):
        reader.senses(2)
    with pytest.raises(NotFoundError, match="has no sense 2"):
        reader.evidence(FeatureEvidence(0), 2)
    nothing = reader.evidence(FeatureEvidence(1), 0)
    assert nothing.train == nothing.test == ()
    assert nothing.note
