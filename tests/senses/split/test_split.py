"""A feature that holds two letters becomes two features, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from onesense.errors import ConfigurationError, FormatError, IncompatibleError, NotFoundError
from onesense.model.language_model import LanguageModel
from onesense.sae.dictionary import Architecture, Normalization
from onesense.sae.evaluate import cross_entropy, spliced_cross_entropy
from onesense.sae.load import load_dictionary
from onesense.senses.split.accept import Reason
from onesense.senses.split.labelled import LabelledFeature
from onesense.senses.split.refine import RefineSettings
from onesense.senses.split.result import Split, SplitSettings
from onesense.senses.split.split import split_features
from onesense.senses.split.split_map import read_split_map, write_split
from onesense.senses.split.split_text import Part, deal_documents
from onesense.store.run_folder import RunFolder
from onesense.text.windows import iter_windows
from senses.split.byte_features import LETTERS, PARENT, SINGLE, Setup, byte_setup, documents
from tiny_dictionaries import prepared, random_dictionary

# A random model serves no text, and its cross-entropy moves either way when the stream is reconstructed better.
SETTINGS = SplitSettings(
    tokens=10_000, context_size=64, contexts=32, cross_entropy_tolerance=0.01, refine=RefineSettings(steps=40)
)


def run_folder(path: Path) -> RunFolder:
    return RunFolder.create_or_resume(path, command="test", configuration={}, provenance={})


@pytest.fixture(scope="module")
def setup(tiny_llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return byte_setup(tiny_llama, run_folder(tmp_path_factory.mktemp("activity") / "run"))


def split(model: LanguageModel, given: Setup, *labelled: LabelledFeature, **changes: object) -> Split:
    chosen = {"dictionary": given.dictionary, "documents": given.documents, "settings": SETTINGS, **changes}
    return split_features(
        model,
        chosen["dictionary"],  # type: ignore[arg-type]
        labelled or (given.labelled(),),
        given.activity,
        given.space,
        given.judge,
        chosen["documents"],  # type: ignore[arg-type]
        chosen["settings"],  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def done(tiny_llama: LanguageModel, setup: Setup) -> Split:
    return split(tiny_llama, setup)


def test_each_letter_has_its_own_feature(done: Split, setup: Setup) -> None:
    assert done.refused == ()
    assert done.children == {PARENT: (PARENT, setup.dictionary.d_sae)}
    latents = done.dictionary.encode(setup.embeddings)[:, list(done.children[PARENT])]
    # a is more frequent and takes the parent's place; no other letter fires either of them
    assert (latents > 0).int().tolist() == [[1, 0], [0, 1], *[[0, 0]] * (len(LETTERS) - 2)]
    one = done.accepted[PARENT]
    assert one.exactly_one == 1.0
    assert one.effective_before > 1.8
    assert one.effective_after == 1.0
    assert done.after.fvu < 0.2 * done.before.fvu
    assert done.after.l0 == pytest.approx(done.before.l0, abs=0.01)
    assert done.after.fvu == pytest.approx(done.before.fvu + one.fvu_change, abs=1e-4)
    assert done.after.cross_entropy <= done.before.cross_entropy * 1.01


def test_all_other_features_stay_bit_for_bit(done: Split, setup: Setup) -> None:
    others = [feature for feature in range(setup.dictionary.d_sae) if feature != PARENT]
    new, old = done.dictionary, setup.dictionary
    assert new.d_sae == old.d_sae + 1
    assert torch.equal(new.W_enc[:, others], old.W_enc[:, others])
    for name in ("b_enc", "threshold", "W_dec"):
        assert torch.equal(getattr(new, name)[others], getattr(old, name)[others])
    assert torch.equal(new.b_dec, old.b_dec)
    assert new.origin.sparsity is not None
    assert old.origin.sparsity is not None
    assert torch.equal(new.origin.sparsity[others], old.origin.sparsity[others])
    share = (setup.activity.token == setup.second).mean()
    assert float(new.origin.sparsity[-1]) == pytest.approx(np.log10(share), abs=1e-3)


def test_the_folder_reads_back_with_its_map(
    done: Split, setup: Setup, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    folder = write_split(done, tmp_path / "out")
    back, found = load_dictionary(path=folder), read_split_map(folder)
    for name, tensor in done.dictionary.tensors().items():
        assert torch.equal(getattr(back, name), tensor)
    assert found.fingerprint == back.origin.fingerprint
    assert found.parent_fingerprint == setup.dictionary.origin.fingerprint == back.origin.extra["split_from"]
    assert (back.origin.expected_l0, back.origin.expected_fvu) == (done.after.l0, done.after.fvu)
    assert "l0" not in back.origin.extra
    assert back.origin.extra["trained_by"] == "hand"
    assert found.features[PARENT].children == done.children[PARENT]
    assert found.parent_of(setup.dictionary.d_sae) == PARENT
    assert found.parent_of(SINGLE) == SINGLE
    assert (found.before, found.after) == (done.before, done.after)
    with pytest.raises(ConfigurationError, match="exists already"):
        write_split(done, folder)


def test_the_same_call_gives_the_same_bytes(
    done: Split, setup: Setup, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    folders = [
        write_split(one, tmp_path / name) for name, one in (("one", done), ("two", split(tiny_llama, setup)))
    ]
    for file in folders[0].iterdir():
        assert file.read_bytes() == (folders[1] / file.name).read_bytes()


def test_what_has_one_sense_stays_whole(tiny_llama: LanguageModel, setup: Setup, tmp_path: Path) -> None:
    position = setup.activity.firings["features"].of(SINGLE)[0][:40]
    said_one = LabelledFeature(SINGLE, position, np.zeros(len(position), np.int64))
    said_two = LabelledFeature(SINGLE, position, np.arange(len(position)) % 2)
    many = setup.labelled()
    kept = np.concatenate([np.flatnonzero(many.label == 0)[:20], np.flatnonzero(many.label == 1)[:2]])
    few = replace(many, position=many.position[kept], label=many.label[kept])
    for labelled, reason in ((said_one, Reason.ONE_SENSE), (few, Reason.TOO_FEW_CONTEXTS)):
        found = split(tiny_llama, setup, labelled)
        assert [(one.feature, one.reason) for one in found.refused] == [(labelled.feature, reason)]
        assert found.children == {}
        assert torch.equal(found.dictionary.W_enc, setup.dictionary.W_enc)
    # labels that are not true do not separate held-out text
    found = split(tiny_llama, setup, said_two, setup.labelled())
    assert [one.feature for one in found.refused] == [SINGLE]
    assert found.refused[0].reason in (Reason.NOT_FEWER_SENSES, Reason.TOO_FEW_CONTEXTS)
    assert list(found.children) == [PARENT]
    refused = read_split_map(write_split(found, tmp_path / "out")).refused
    assert refused == found.refused


def test_a_feature_that_never_fires_is_named_dead(tiny_llama: LanguageModel, setup: Setup) -> None:
    firings = setup.activity.firings["features"]
    pointer = firings.pointer.copy()
    pointer[-1] = pointer[-2]
    quiet = replace(setup.activity, firings={"features": replace(firings, pointer=pointer)})
    dead = setup.dictionary.d_sae - 1
    nothing = np.empty(0, np.int64)
    found = split(tiny_llama, setup._replace(activity=quiet), LabelledFeature(dead, nothing, nothing))
    assert [(one.feature, one.reason) for one in found.refused] == [(dead, Reason.DEAD)]


def test_no_tolerance_for_cross_entropy_is_kept_to(tiny_llama: LanguageModel, setup: Setup) -> None:
    strict = split(tiny_llama, setup, settings=replace(SETTINGS, cross_entropy_tolerance=0.0))
    assert strict.after.cross_entropy <= strict.before.cross_entropy


def test_a_relu_dictionary_becomes_a_jumprelu_of_the_same_function(
    tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    given = byte_setup(tiny_llama, run_folder(tmp_path / "run"), Architecture.RELU)
    found = split(tiny_llama, given)
    assert list(found.children) == [PARENT]
    others = [feature for feature in range(given.dictionary.d_sae) if feature != PARENT]
    rows = torch.randn(50, given.dictionary.d_in)
    assert found.dictionary.architecture is Architecture.JUMPRELU
    assert torch.equal(
        found.dictionary.encode_features(rows, torch.tensor(others)),
        given.dictionary.encode_features(rows, torch.tensor(others)),
    )


def test_bad_input_is_refused(tiny_llama: LanguageModel, setup: Setup) -> None:
    good = setup.labelled()
    with pytest.raises(NotFoundError, match="no feature 99"):
        split(tiny_llama, setup, replace(good, feature=99))
    with pytest.raises(ConfigurationError, match="twice"):
        split(tiny_llama, setup, good, good)
    with pytest.raises(IncompatibleError, match="does not fire"):
        split(tiny_llama, setup, replace(good, feature=SINGLE))
    with pytest.raises(IncompatibleError, match="do not\\s+belong together"):
        replace(good, label=good.label[:-1])
    other = random_dictionary(Architecture.JUMPRELU, d_in=32, hook_point=setup.dictionary.hook_point)
    with pytest.raises(IncompatibleError, match="are those of 15 features"):
        split(tiny_llama, setup, dictionary=other)
    with pytest.raises(IncompatibleError, match="not the one whose contexts"):
        split(tiny_llama, setup, documents=documents(seed=5))
    with pytest.raises(IncompatibleError, match="not the one whose contexts"):
        split(tiny_llama, setup, documents=setup.documents[:-1])
    with pytest.raises(ConfigurationError, match="There is no feature to split"):
        split_features(
            tiny_llama, setup.dictionary, [], setup.activity, setup.space, setup.judge, setup.documents
        )
    with pytest.raises(ConfigurationError, match="not those of `neurons`"):
        split(tiny_llama, setup, settings=replace(SETTINGS, unit_set="neurons"))
    one_document = replace(setup.activity, document=np.zeros_like(setup.activity.document))
    with pytest.raises(ConfigurationError, match="1 document; none is left"):
        split(tiny_llama, setup._replace(activity=one_document))


@pytest.mark.parametrize("architecture", [Architecture.TOPK, Architecture.GATED])
def test_rules_that_know_no_threshold_are_refused(
    architecture: Architecture, tiny_llama: LanguageModel, setup: Setup
) -> None:
    with pytest.raises(IncompatibleError, match=f"{architecture} dictionary cannot be split"):
        split(tiny_llama, setup, dictionary=random_dictionary(architecture))
    each = prepared(setup.dictionary, normalization=Normalization.LAYER_NORM)
    with pytest.raises(IncompatibleError, match="normalises each token by itself"):
        split(tiny_llama, setup, dictionary=each)


@pytest.mark.parametrize("wrong", [{"held_out": 0.0}, {"choice": 0.8}, {"fvu_tolerance": -1.0}])
def test_bad_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        SplitSettings(**wrong)  # type: ignore[arg-type]


def test_documents_are_dealt_whole() -> None:
    document = np.repeat(np.arange(200), np.random.default_rng(0).integers(1, 40, 200))
    part = deal_documents(document, held_out=0.3, choice=0.15, seed=3)
    assert all(len(set(part[document == one])) == 1 for one in range(200))
    assert [(part == one).mean() for one in Part] == pytest.approx([0.55, 0.15, 0.3], abs=0.03)
    long = deal_documents(np.repeat(np.arange(3), [1000, 1, 1]), held_out=0.3, choice=0.15, seed=0)
    assert set(long.tolist()) == set(Part)


def test_a_damaged_map_is_named(done: Split, tmp_path: Path) -> None:
    file = write_split(done, tmp_path / "out") / "split.json"
    whole = file.read_text()
    for broken in (
        whole.replace('"children"', '"kinder"'),
        whole.replace('"version": 1', '"version": 9'),
        whole.replace('"fvu": ', f'"fvu": {10**400}, "before": ', 1),
        "[]",
    ):
        file.write_text(broken)
        with pytest.raises(FormatError, match=r"split\.json"):
            read_split_map(file.parent)


def test_cross_entropy_of_windows_is_that_of_the_text(tiny_llama: LanguageModel, setup: Setup) -> None:
    windows = list(iter_windows(tiny_llama, setup.documents, context_size=64))
    whole = cross_entropy(tiny_llama, setup.dictionary, setup.documents, tokens=10_000, context_size=64)
    assert spliced_cross_entropy(tiny_llama, setup.dictionary, windows) == pytest.approx(whole.spliced)
    with pytest.raises(ConfigurationError, match="too short"):
        spliced_cross_entropy(tiny_llama, setup.dictionary, [])
