"""What a text did in a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from onesense.engine.stages import Silent
from onesense.errors import ConfigurationError, IncompatibleError, NotFoundError, NumericalError
from onesense.model.capture import capture
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.sae.activations import usable_positions
from onesense.sae.dictionary import Dictionary
from onesense.senses import activity as module
from onesense.senses.activity import Activity, collect_activity, firing_rates, read_text
from onesense.senses.unit_sets import UnitSet, feature_units, residual_units, usable_rows
from onesense.store.run_folder import RunFolder
from onesense.text.corpus import Document
from onesense.text.windows import batch_windows, iter_windows
from senses.planted_contexts import POINT, documents
from tiny_dictionaries import ARCHITECTURES, random_dictionary
from tiny_models import make_byte_tokenizer, tiny_hf

MOST = 10_000


def _run(path: Path) -> RunFolder:
    return RunFolder.create_or_resume(path, command="senses measure", configuration={}, provenance={})


def _collect(
    model: LanguageModel, units: list[UnitSet], run: RunFolder, texts: list[Document], tokens: int = MOST
) -> Activity:
    return collect_activity(model, POINT, units, texts, run, tokens=tokens, context_size=64, stages=Silent())


def _features(model: LanguageModel, **settings: Any) -> Dictionary:
    return random_dictionary(d_in=model.d_model, hook_point=POINT, **settings)


def _spiked() -> LanguageModel:
    """A model in which the token ~ makes the stream huge."""
    hf, tokenizer = tiny_hf("llama"), make_byte_tokenizer()
    with torch.no_grad():
        hf.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids("~")] *= 1000
    return LanguageModel.from_hf(hf, tokenizer, "spiked")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_firings_are_those_of_the_dictionary(
    architecture: Any, tiny_llama: LanguageModel, tmp_path: Path
) -> None:
    dictionary = _features(tiny_llama, architecture=architecture)
    texts = documents(16)
    found = _collect(tiny_llama, [feature_units(dictionary)], _run(tmp_path / "run"), texts)
    windows = list(iter_windows(tiny_llama, texts, context_size=64))
    dense, stream = [], []
    for start in range(0, len(windows), 16):
        batch = batch_windows(tiny_llama, windows[start : start + 16])
        rows = capture(tiny_llama, batch, [POINT])[POINT]
        rows = rows[usable_positions(rows, batch.content)]
        dense.append(dictionary.encode(rows).numpy())
        stream.append(rows.numpy())
    wanted, seen = np.concatenate(dense), np.zeros((len(found), dictionary.d_sae), np.float32)
    firings = found.firings["features"]
    for unit in range(dictionary.d_sae):
        position, value = firings.of(unit)
        assert (np.diff(position) > 0).all()
        seen[position, unit] = value
    assert_allclose(seen, wanted, atol=1e-4)
    assert_array_equal(firings.count, (wanted > 0).sum(0))
    rows = np.concatenate(stream)
    norm = np.sqrt((rows**2).mean(1, keepdims=True))
    assert_allclose(found.rows(np.arange(len(found))), rows / norm, atol=2e-3)


def test_a_wide_dictionary_reads_fewer_rows_at_once(
    tiny_llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionary, texts = _features(tiny_llama), documents(16)
    whole = _collect(tiny_llama, [feature_units(dictionary)], _run(tmp_path / "whole"), texts)
    rates = firing_rates(tiny_llama, dictionary, list(iter_windows(tiny_llama, texts, context_size=64)))
    sizes: list[int] = []
    encode = module.encoded

    def counted(one: Dictionary, rows: torch.Tensor) -> Any:
        sizes.append(len(rows))
        return encode(one, rows)

    monkeypatch.setattr(module, "encoded", counted)
    monkeypatch.setattr(module, "_LATENTS_AT_ONCE", 7 * dictionary.d_sae + 1)
    found = _collect(tiny_llama, [feature_units(dictionary)], _run(tmp_path / "parts"), texts)
    windows = list(iter_windows(tiny_llama, texts, context_size=64))
    assert torch.equal(firing_rates(tiny_llama, dictionary, windows), rates)
    assert max(sizes) == 7
    for name in ("pointer", "position"):
        assert_array_equal(getattr(found.firings["features"], name), getattr(whole.firings["features"], name))
    assert_allclose(found.firings["features"].value, whole.firings["features"].value, atol=1e-5)


def test_positions_know_their_place_in_the_text(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    texts = documents(6)
    found = _collect(tiny_llama, [feature_units(_features(tiny_llama))], _run(tmp_path / "run"), texts)
    tokenizer = tiny_llama.require_tokenizer()
    ids = [tokenizer(one.text, add_special_tokens=False)["input_ids"] for one in texts]
    place = list(zip(found.document, found.offset, found.token, strict=True))
    assert place == sorted(place, key=lambda one: one[:2])
    assert all(ids[document][offset] == token for document, offset, token in place)
    starts = found.offset % 63 == 0
    assert (found.before[starts] == -1).all()
    assert all(
        ids[document][offset - 1] == before
        for document, offset, before in zip(
            found.document[~starts], found.offset[~starts], found.before[~starts], strict=True
        )
    )
    assert_array_equal(np.unique(found.window), np.arange(found.window.max() + 1))
    assert_array_equal(np.diff(found.window) > 0, starts[1:])


def test_outliers_and_special_tokens_are_left_out(tmp_path: Path) -> None:
    model = _spiked()
    texts = [Document(0, "a", "many words and one ~ here <eos> and more words " * 4)]
    found = _collect(model, [feature_units(_features(model))], _run(tmp_path / "run"), texts)
    tokenizer = model.require_tokenizer()
    huge = tokenizer.convert_tokens_to_ids("~")
    assert huge not in found.token
    assert huge in found.before
    assert not set(tokenizer.all_special_ids) & set(found.token.tolist())
    assert found.firings["features"].position.max() < len(found)


def test_reading_ends_after_so_many_tokens(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    units = [feature_units(_features(tiny_llama))]
    found = _collect(tiny_llama, units, _run(tmp_path / "run"), documents(), tokens=150)
    assert 140 < len(found) <= 150


def test_an_interrupted_read_goes_on_and_ends_in_the_same_bytes(
    tiny_llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WINDOWS_PER_SHARD", 8)
    calls, stop_at = [], 0

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == stop_at:
            raise InterruptedError
        return capture(*arguments)

    monkeypatch.setattr(module, "capture", counted)
    units, texts = [feature_units(_features(tiny_llama))], documents(20)
    whole = _collect(tiny_llama, units, _run(tmp_path / "whole"), texts)
    needed = len(calls)
    assert needed >= 4
    calls.clear()
    stop_at = 3
    with pytest.raises(InterruptedError):
        _collect(tiny_llama, units, _run(tmp_path / "again"), texts)
    calls.clear()
    stop_at = 0
    resumed = _collect(tiny_llama, units, _run(tmp_path / "again"), texts)
    assert len(calls) == needed - 2
    files = sorted(path.name for path in (tmp_path / "whole/activity").iterdir())
    assert len(files) == needed
    for name in files:
        assert (tmp_path / "whole/activity" / name).read_bytes() == (
            tmp_path / "again/activity" / name
        ).read_bytes()
    assert_array_equal(whole.firings["features"].value, resumed.firings["features"].value)
    calls.clear()
    _collect(tiny_llama, units, _run(tmp_path / "again"), texts)
    assert not calls


def test_rows_are_found_across_shards(
    tiny_llama: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units, texts = [feature_units(_features(tiny_llama))], documents(20)
    one = _collect(tiny_llama, units, _run(tmp_path / "one"), texts)
    monkeypatch.setattr(module, "_WINDOWS_PER_SHARD", 16)
    parts = _collect(tiny_llama, units, _run(tmp_path / "parts"), texts)
    assert len(parts.residual) > 1
    wanted = np.random.default_rng(0).permutation(len(one))[:100]
    assert_array_equal(parts.rows(wanted), one.rows(wanted))
    assert_array_equal(parts.window, one.window)
    for unit in range(40):
        assert_array_equal(parts.firings["features"].of(unit)[0], one.firings["features"].of(unit)[0])
    text = read_text(_run(tmp_path / "parts"))
    assert_array_equal(text.token, one.token)
    assert text.firings == {}


def test_rates_are_those_of_the_firings(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    dictionary, texts = _features(tiny_llama), documents(10)
    found = _collect(tiny_llama, [feature_units(dictionary)], _run(tmp_path / "run"), texts)
    rates = firing_rates(tiny_llama, dictionary, list(iter_windows(tiny_llama, texts, context_size=64)))
    assert_allclose(rates.numpy(), found.firings["features"].count / len(found))


def test_damage_is_told_before_outliers_are_left_out(tmp_path: Path) -> None:
    for damage in (float("nan"), float("inf")):
        model = LanguageModel.from_hf(tiny_hf("llama"), make_byte_tokenizer(), "damaged")
        units = [feature_units(_features(model))]
        with torch.no_grad():
            model.hf.model.embed_tokens.weight[model.require_tokenizer().convert_tokens_to_ids("e"), 3] = (
                damage
            )
        with pytest.raises(NumericalError, match="document 0"):
            _collect(model, units, _run(tmp_path / str(damage)), documents(4))
        assert RunFolder.open(tmp_path / str(damage)).results() == []


def test_what_cannot_be_read_is_told(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    features = feature_units(_features(tiny_llama))
    with pytest.raises(ConfigurationError, match="no token"):
        _collect(tiny_llama, [features], _run(tmp_path / "empty"), [Document(0, "a", "")])
    with pytest.raises(ConfigurationError, match="same name"):
        _collect(tiny_llama, [features, features], _run(tmp_path / "twice"), documents(2))
    narrow = feature_units(random_dictionary(d_in=12, hook_point=POINT))
    with pytest.raises(IncompatibleError, match="read 12 numbers"):
        _collect(tiny_llama, [narrow], _run(tmp_path / "narrow"), documents(2))
    with pytest.raises(NotFoundError):
        read_text(_run(tmp_path / "empty"))


def test_several_sets_are_read_at_their_own_places(
    tiny_model: Callable[[str], LanguageModel], tmp_path: Path
) -> None:
    model = tiny_model("gpt2")
    windows = list(iter_windows(model, documents(10), context_size=64))
    above = HookPoint(2, "hook_resid_post")
    rows = usable_rows(model, [above], windows)[above]
    other = residual_units(above, rows, torch.tensor([0.1], dtype=torch.float64))
    found = _collect(model, [feature_units(_features(model)), other], _run(tmp_path / "run"), documents(10))
    rate = found.firings["residual basis"].count / len(found)
    assert np.median(rate) == pytest.approx(0.1, abs=0.02)
